from __future__ import annotations

import numpy as np
import pytest

from amodal2.data.mappers.occluders import build_occluders
from amodal2.structures import decode_rle, encode_mask, rle_box

SIZE = (40, 60)


def block(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def record(amodal: np.ndarray, visible: np.ndarray, rank: int, cluster: int = 1) -> dict:
    whole, seen = encode_mask(amodal), encode_mask(visible)
    return {
        "id": rank,
        "visible_segm": seen,
        "amodal_bbox": list(rle_box(whole)),
        "visible_bbox": list(rle_box(seen)),
        "order": {"cluster": cluster, "rank": rank},
    }


FRONT, BACK, APART = block(10, 20, 30, 40), block(5, 5, 25, 30), block(32, 50, 40, 60)


@pytest.fixture
def three() -> list[dict]:
    """Return a front object, one partly behind it, and one far from both."""
    return [record(FRONT, FRONT, 1), record(BACK, BACK & ~FRONT, 2), record(APART, APART, 3)]


def pixels(rle: dict | None) -> np.ndarray:
    return np.zeros(SIZE, dtype=bool) if rle is None else decode_rle(rle)


def test_build_occluders_all_neighbours_takes_what_lies_behind_as_well(three):
    over_front, over_back, over_apart = map(pixels, build_occluders(three, SIZE, "all_neighbours"))
    assert np.array_equal(over_front, BACK & ~FRONT & block(10, 20, 30, 40))
    assert np.array_equal(over_back, FRONT & block(5, 5, 25, 30))
    assert not over_apart.any()


@pytest.mark.parametrize("cluster", [1, 2])
def test_build_occluders_front_only_takes_nearer_objects_of_the_cluster(three, cluster):
    three[0]["order"]["cluster"] = cluster
    over_front, over_back, _ = map(pixels, build_occluders(three, SIZE, "front_only"))
    assert not over_front.any()
    assert np.array_equal(over_back, FRONT & block(5, 5, 25, 30) & (cluster == 1))


def test_build_occluders_precomputed_masks_are_passed_on(three):
    for one in three:
        one["occluder_segm"] = encode_mask(APART)
    assert build_occluders(three, SIZE, "precomputed") == [encode_mask(APART)] * 3


@pytest.mark.parametrize(("rows", "kept"), [(4, False), (5, False), (6, True)])
def test_build_occluders_needs_more_than_twenty_pixels(rows, kept):
    """The neighbour covers 4 columns of the object's box."""
    own, other = block(0, 0, 10, 10), block(0, 6, rows, 12)
    found = build_occluders([record(own, own, 2), record(other, other, 1)], SIZE, "all_neighbours")
    assert (found[0] is not None) == kept


@pytest.mark.parametrize(("width", "kept"), [(5, False), (6, True)])
def test_build_occluders_needs_more_than_a_twentieth_of_box_overlap(width, kept):
    """Inside a box of 20 x 25 = 500 pixels, 5 x 5 are exactly 0.05."""
    own, other = block(0, 0, 20, 25), block(0, 0, 5, width)
    found = build_occluders([record(own, own, 2), record(other, other, 1)], SIZE, "all_neighbours")
    assert (found[0] is not None) == kept


@pytest.mark.parametrize("mode", ["all_neighbours", "front_only", "precomputed"])
def test_build_occluders_of_wanted_objects_are_those_of_all(three, mode):
    for one, mask in zip(three, (FRONT, BACK, APART), strict=True):
        one["occluder_segm"] = encode_mask(mask)
    whole = build_occluders(three, SIZE, mode)
    assert build_occluders(three, SIZE, mode, [2, 1]) == [whole[2], whole[1]]


def test_build_occluders_of_no_objects_is_empty():
    assert build_occluders([], SIZE, "all_neighbours") == []


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("x", r"mode of .*'precomputed'\), got 'x'"),
        ("precomputed", r"'occluder_segm' in every annotation .*got none in annotation 1"),
    ],
)
def test_build_occluders_wrong_mode_is_refused(three, mode, text):
    with pytest.raises(ValueError, match=text):
        build_occluders(three, SIZE, mode)
