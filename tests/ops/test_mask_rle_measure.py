"""Areas and intersections of run-length coded masks: kernel and reference against pixels."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from amodal2.ops import HAS_C, mask_rle, mask_rle_areas, mask_rle_intersections, pack_texts

module = importlib.import_module("amodal2.ops.mask_rle_measure")

AREAS = pytest.mark.parametrize(
    "areas", [mask_rle_areas, module._areas_reference], ids=["dispatched", "reference"]
)
INTERSECTIONS = pytest.mark.parametrize(
    "intersect",
    [mask_rle_intersections, module._intersections_reference],
    ids=["dispatched", "reference"],
)
SIZES = [(1, 1), (1, 7), (9, 1), (7, 17), (63, 65), (200, 3)]
BROKEN = {
    "another character": "é1",
    "below the characters": " ",
    "cut inside a number": "P",
    "cut between numbers": "1",
    "too many pixels": "7",
    "negative run": "1N7",
    "absurd number": "o" * 40,
    "nothing": "",
}
"""Texts that are no mask of 6 pixels."""


def draw_masks(count: int, size: tuple[int, int]) -> Tensor:
    """Draw boxes with holes of noise; the first mask is empty, the second one full."""
    height, width = size
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for mask in masks[1:]:
        y, x = int(torch.randint(height, ())), int(torch.randint(width, ()))
        mask[y:, x:] = torch.rand(height - y, width - x) < 0.8
    masks[1:2] = True
    return masks


def texts_of(masks: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ops.amodal2.mask_rle(masks, list(masks.shape[1:]), [0, 0])


@AREAS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mask_rle_areas_count_pixels(size, areas):
    masks = draw_masks(6, size)
    pixels = torch.full((6,), size[0] * size[1])
    assert areas(*texts_of(masks), pixels).tolist() == masks.flatten(1).sum(1).tolist()


@AREAS
@pytest.mark.parametrize("key", BROKEN)
def test_mask_rle_areas_damaged_text_gives_minus_one_and_spares_its_neighbours(key, areas):
    text, offsets = pack_texts(["15", BROKEN[key], "6", "060"])
    assert areas(text, offsets, torch.tensor([6, 6, 6, 6])).tolist() == [5, -1, 0, 6]


@AREAS
def test_mask_rle_areas_random_bytes_never_crash(areas):
    text = torch.randint(40, 120, (600,), dtype=torch.uint8)
    offsets = torch.arange(0, 601, 6)
    found = areas(text, offsets, torch.full((100,), 12))
    assert found.min() == -1
    assert found.max() <= 12


@AREAS
def test_mask_rle_areas_without_masks_are_empty(areas):
    text, offsets = pack_texts([])
    assert areas(text, offsets, torch.zeros(0, dtype=torch.int64)).shape == (0,)


@INTERSECTIONS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mask_rle_intersections_count_common_pixels(size, intersect):
    frames, tracks, others = 3, 4, 2
    first, second = draw_masks(tracks * frames, size), draw_masks(others * frames, size)
    found = intersect(*texts_of(first), *texts_of(second), frames, size)
    a, b = first.view(tracks, 1, frames, -1), second.view(1, others, frames, -1)
    assert torch.equal(found, (a & b).sum(-1).permute(2, 0, 1))


@INTERSECTIONS
def test_mask_rle_intersections_text_without_characters_is_an_empty_mask(intersect):
    ours, theirs = pack_texts(["", "06"]), pack_texts(["06", ""])
    assert intersect(*ours, *theirs, 1, (2, 3)).tolist() == [[[0, 0], [6, 0]]]


@INTERSECTIONS
@pytest.mark.parametrize(("tracks", "others"), [(0, 0), (2, 0), (0, 2)])
def test_mask_rle_intersections_without_tracks_are_empty(tracks, others, intersect):
    ours, theirs = pack_texts(["06"] * 3 * tracks), pack_texts(["06"] * 3 * others)
    assert intersect(*ours, *theirs, 3, (2, 3)).shape == (3, tracks, others)


@INTERSECTIONS
@pytest.mark.parametrize("key", [key for key in BROKEN if key != "nothing"])
def test_mask_rle_intersections_damaged_text_raises_value_error(key, intersect):
    good, bad = pack_texts(["06", "06"]), pack_texts(["06", BROKEN[key]])
    for texts in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match=r"mask_rle_intersections: expected .*\(mask 1\)"):
            intersect(*texts[0], *texts[1], 1, (2, 3))


WRONG_AREAS = {
    "pixels of another number": ((torch.zeros(2).long(),), ValueError, r"sizes \[1\]"),
    "pixels of another type": ((torch.zeros(1),), TypeError, "pixels of type"),
}


@AREAS
@pytest.mark.parametrize("key", WRONG_AREAS)
def test_mask_rle_areas_wrong_argument_raises(key, areas):
    arguments, error, message = WRONG_AREAS[key]
    with pytest.raises(error, match="mask_rle_areas: .*" + message):
        areas(*pack_texts(["06"]), *arguments)


@AREAS
@pytest.mark.parametrize("offsets", [[0, 3], [1, 2], [0, 2, 1, 2]], ids=str)
def test_mask_rle_areas_wrong_offsets_raise_value_error(offsets, areas):
    pixels = torch.full((len(offsets) - 1,), 6)
    with pytest.raises(ValueError, match="mask_rle_areas: expected offsets that rise from 0 to"):
        areas(pack_texts(["06"])[0], torch.tensor(offsets), pixels)


@INTERSECTIONS
@pytest.mark.parametrize(
    ("frames", "size", "message"),
    [
        (2, (2, 3), "numbers of texts that frames divides, got 3 and 2 texts"),
        (0, (2, 3), "numbers of texts that frames divides"),
        (1, (2,), "size as two numbers"),
        (1, (-2, 3), "size as two numbers"),
        (1, (2**17, 2**17), r"size with fewer than 2\^34 pixels"),
    ],
)
def test_mask_rle_intersections_wrong_argument_raises(frames, size, message, intersect):
    with pytest.raises(ValueError, match="mask_rle_intersections: expected " + message):
        intersect(*pack_texts(["06"] * 3), *pack_texts(["06"] * 2), frames, size)


def test_pack_texts_takes_text_and_bytes():
    text, offsets = pack_texts(["06", b"15", "é"])
    assert bytes(text.tolist()) == "0615é".encode()
    assert offsets.tolist() == [0, 2, 4, 6]


@pytest.mark.skipif(not HAS_C, reason="amodal2._C is not built")
def test_mask_rle_measure_kernels_are_those_of_the_extension():
    for name in ("mask_rle_areas", "mask_rle_intersections"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"amodal2::{name}", "CPU")


def test_mask_rle_measure_passes_opcheck():
    texts = texts_of(draw_masks(4, (5, 6)))
    torch.library.opcheck(torch.ops.amodal2.mask_rle_areas, (*texts, torch.full((4,), 30)))
    arguments = (*texts, *texts, 2, [5, 6])
    torch.library.opcheck(torch.ops.amodal2.mask_rle_intersections, arguments)


def test_pack_texts_of_mask_rle_gives_its_tensors():
    masks = draw_masks(3, (5, 6))
    packed = pack_texts([rle["counts"] for rle in mask_rle(masks)])
    assert all(map(torch.equal, packed, texts_of(masks)))
