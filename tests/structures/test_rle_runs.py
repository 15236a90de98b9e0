from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from amodal2.structures import rle_runs
from amodal2.structures.rle import encode_mask
from amodal2.structures.rle_runs import contained, decode_runs, find_invalid_counts

SHAPE = (13, 17)
PIXELS = SHAPE[0] * SHAPE[1]


def random_masks(count: int, seed: int = 0) -> np.ndarray:
    """Return masks from empty to full, some with long runs."""
    rng = np.random.default_rng(seed)
    masks = rng.random((count, *SHAPE)) < rng.random((count, 1, 1))
    masks[::3, :, 4:9] = True
    masks[::5, :, 10:] = False
    masks[0], masks[-1] = False, True
    return masks


def counts_of(masks) -> list[str]:
    return [encode_mask(mask)["counts"] for mask in masks]


def expand(runs: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(SHAPE, order="F")


def test_decode_runs_rebuilds_the_masks():
    masks = random_masks(40)
    runs, offsets = decode_runs(counts_of(masks))
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(expand(runs[offsets[i] : offsets[i + 1]]), mask)


def test_decode_runs_large_image_keeps_long_runs():
    mask = np.zeros((3000, 4000), dtype=bool)
    mask[5, 3999] = True
    runs, _ = decode_runs([encode_mask(mask)["counts"]])
    assert runs.tolist() == [3999 * 3000 + 5, 1, 2994]


def test_decode_runs_broken_string_raises():
    with pytest.raises(ValueError, match=r"decode_runs: .*cut inside a number \(string 1\)"):
        decode_runs(["0", "hello"])


@pytest.mark.parametrize("chunk", [1, 50, 1 << 16])
def test_find_invalid_counts_valid_strings_pass_in_any_chunks(chunk, monkeypatch):
    monkeypatch.setattr(rle_runs, "_CHUNK_CHARS", chunk)
    counts = counts_of(random_masks(40))
    assert find_invalid_counts(counts, [PIXELS] * len(counts)) == {}
    assert find_invalid_counts([], []) == {}


@pytest.mark.parametrize("chunk", [1, 1 << 16])
def test_find_invalid_counts_broken_strings_are_found_among_good_ones(chunk, monkeypatch):
    monkeypatch.setattr(rle_runs, "_CHUNK_CHARS", chunk)
    counts = counts_of(random_masks(12))
    broken = {
        1: (counts[1][:-1], "truncated|cut"),
        3: ("é" + counts[3], "ASCII"),
        4: ("~" + counts[4], "characters"),
        6: ("", "got 0"),
        8: ("o" * 20 + "0", "longer number"),
        9: ("5" + counts[9], "sum to 221|negative"),
        10: ("Oo", "negative run|cut|sum to"),
    }
    for position, (text, _) in broken.items():
        counts[position] = text
    found = find_invalid_counts(counts, [PIXELS] * len(counts))
    assert list(found) == sorted(broken)
    for position, (_, message) in broken.items():
        assert any(part in found[position] for part in message.split("|")), found[position]


def test_find_invalid_counts_negative_run_with_right_sum_is_found():
    minus_one = "O"  # one group: 31 with the sign bit
    assert decode_runs([minus_one])[0].tolist() == [-1]
    runs = coco_mask.frPyObjects({"size": [1, 9], "counts": [4, 5]}, 1, 9)["counts"].decode()
    assert find_invalid_counts([runs], [9]) == {}
    assert "negative run" in find_invalid_counts([minus_one + "3"], [2])[0]


def test_contained_equals_pixel_test():
    masks = random_masks(60)
    rng = np.random.default_rng(1)
    inner = masks & (rng.random(masks.shape) < 0.9)
    inner[1::2] = random_masks(60, seed=2)[1::2]
    expected = [not (a & ~b).any() for a, b in zip(inner, masks, strict=True)]
    assert True in expected
    assert False in expected
    np.testing.assert_array_equal(contained(counts_of(inner), counts_of(masks), PIXELS), expected)


def test_contained_empty_masks_lie_in_everything():
    empty, full = counts_of([np.zeros(SHAPE, bool), np.ones(SHAPE, bool)])
    result = contained([empty, empty, full], [empty, full, empty], PIXELS)
    assert result.tolist() == [True, True, False]


def test_contained_runs_with_zero_gap_count_as_one():
    split = coco_mask.frPyObjects({"size": [1, 9], "counts": [1, 3, 0, 4, 1]}, 1, 9)
    whole = coco_mask.frPyObjects({"size": [1, 9], "counts": [1, 7, 1]}, 1, 9)
    assert contained([whole["counts"].decode()], [split["counts"].decode()], 9).all()
