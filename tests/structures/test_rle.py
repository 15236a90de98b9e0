from __future__ import annotations

import numpy as np
import pytest

from amodal2.structures.rle import (
    decode_rle,
    encode_mask,
    encode_masks,
    find_invalid_rles,
    polygons_to_rle,
    rle_area,
    rle_areas,
    rle_box,
    to_rle,
    validate_rle,
)

MASK = np.zeros((6, 9), dtype=bool)
MASK[1:4, 2:7] = True


def test_encode_mask_round_trip_is_identity():
    encoded = encode_mask(MASK)
    assert encoded["size"] == [6, 9]
    assert isinstance(encoded["counts"], str)
    np.testing.assert_array_equal(decode_rle(encoded), MASK)


def test_encode_mask_wrong_rank_raises():
    with pytest.raises(
        ValueError, match=r"encode_mask: expected mask \[H, W\], got shape \(1, 6, 9\)"
    ):
        encode_mask(MASK[None])


def test_encode_masks_empty_stack_gives_no_masks():
    assert encode_masks(np.zeros((0, 6, 9), dtype=bool)) == []
    assert encode_masks(np.stack([MASK, ~MASK])) == [encode_mask(MASK), encode_mask(~MASK)]


def test_encode_masks_wrong_rank_raises():
    with pytest.raises(ValueError, match=r"encode_masks: expected masks \[N, H, W\]"):
        encode_masks(MASK)


def test_rle_area_and_box_measure_the_mask():
    assert rle_area(encode_mask(MASK)) == 15
    assert rle_box(encode_mask(MASK)) == (2, 1, 5, 3)
    assert rle_box(encode_mask(MASK & False)) == (0, 0, 0, 0)


def test_rle_areas_many_masks_equal_single_areas():
    masks = [np.arange(54).reshape(6, 9) < n for n in range(50)] * 12
    areas = rle_areas([encode_mask(mask) for mask in masks])
    assert areas.tolist() == [int(mask.sum()) for mask in masks]


@pytest.mark.parametrize(
    "segmentation",
    [
        pytest.param({"size": [6, 9], "counts": [13, 3, 3, 3, 3, 3, 3, 3, 3, 3, 14]}, id="list"),
        pytest.param([[2, 1, 7, 1, 7, 4, 2, 4]], id="polygon"),
        pytest.param(encode_mask(MASK), id="compressed"),
    ],
)
def test_to_rle_any_form_gives_the_same_mask(segmentation):
    np.testing.assert_array_equal(decode_rle(to_rle(segmentation, 6, 9)), MASK)


def test_polygons_to_rle_joins_parts():
    parts = polygons_to_rle([[0, 0, 2, 0, 2, 2, 0, 2], [4, 3, 6, 3, 6, 5, 4, 5]], 6, 9)
    assert rle_area(parts) == 8


@pytest.mark.parametrize("polygons", [[], [[]], [[0, 0, 1, 1]], [[0] * 7], [["a"] * 6]])
def test_polygons_to_rle_broken_polygon_raises(polygons):
    with pytest.raises(ValueError, match=r"polygons_to_rle: expected .*polygon"):
        polygons_to_rle(polygons, 6, 9)


@pytest.mark.parametrize(
    "polygon",
    [
        [10**400, 0, 5, 0, 5, 5],
        [0, 0, 1e9, 0, 1e9, 1],
        [1e12, 1e12, 1e12 + 4, 1e12, 1e12, 1e12 + 4],
        [-1e6, 0, 1e6, 0] * 3,
    ],
    ids=["no-float", "wide", "far", "long"],
)
def test_polygons_to_rle_absurd_polygon_raises(polygon):
    """The C code would allocate gigabytes for them, or overflow."""
    with pytest.raises(ValueError, match=r"polygons_to_rle: expected .*polygon"):
        polygons_to_rle([polygon], 6, 9)


def test_polygons_to_rle_outline_beyond_the_image_is_cut():
    mask = decode_rle(polygons_to_rle([[-1000, 2, 1000, 2, 1000, 4, -1000, 4]], 6, 9))
    assert mask.all(axis=1).tolist() == [False, False, True, True, False, False]


GOOD = encode_mask(MASK)["counts"]


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        pytest.param(None, "expected an RLE", id="none"),
        pytest.param({"counts": GOOD}, "expected an RLE", id="no-size"),
        pytest.param(
            {"size": [9, 6], "counts": GOOD}, r"size \[6, 9\].*got \[9, 6\]", id="swapped"
        ),
        pytest.param({"size": [6.0, 9.0], "counts": GOOD}, r"size \[6, 9\]", id="float-size"),
        pytest.param({"size": "69", "counts": GOOD}, r"size \[6, 9\]", id="text-size"),
        pytest.param({"size": [6, 9], "counts": GOOD.encode()}, "got bytes", id="bytes"),
        pytest.param({"size": [6, 9], "counts": 5}, "text or list of int", id="number"),
        pytest.param({"size": [6, 9], "counts": GOOD[:-1]}, "truncated or damaged", id="truncated"),
        pytest.param({"size": [6, 9], "counts": "hello"}, "cut inside a number", id="garbage"),
        pytest.param({"size": [6, 9], "counts": [50]}, "sum to 54 pixels, got 50", id="short-list"),
        pytest.param({"size": [6, 9], "counts": [60, -6]}, "non-negative", id="negative-list"),
    ],
)
def test_validate_rle_broken_input_raises(rle, message):
    with pytest.raises(ValueError, match=message):
        validate_rle(rle, (6, 9))


def test_find_invalid_rles_names_positions():
    good, list_form = encode_mask(MASK), {"size": [6, 9], "counts": [54]}
    found = find_invalid_rles(
        [good, None, list_form, {"size": [6, 9], "counts": "1"}], [(6, 9)] * 4
    )
    assert sorted(found) == [1, 3]


@pytest.mark.parametrize("measure", [rle_area, rle_box])
def test_measures_refuse_counts_that_are_cut_inside_a_number(measure):
    whole = encode_mask(np.ones((100, 100), dtype=bool))
    with pytest.raises(ValueError, match="cut inside a number"):
        measure({"size": [100, 100], "counts": whole["counts"][:-1]})
