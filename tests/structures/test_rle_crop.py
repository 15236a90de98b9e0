"""Coding of masks by their boxes equals that of whole frames."""

from __future__ import annotations

import numpy as np
import pytest

from amodal2.structures.rle import encode_mask
from amodal2.structures.rle_crop import Crop, decode_crops, encode_crop

SIZE = (12, 9)


def random_crop(seed: int) -> Crop:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, SIZE[0] + 1), rng.integers(1, SIZE[1] + 1)
    y, x = rng.integers(0, SIZE[0] - height + 1), rng.integers(0, SIZE[1] - width + 1)
    density = rng.choice([0.1, 0.5, 0.9, 1.0])
    return Crop(rng.random((height, width)) < density, int(x), int(y))


def in_frame(crop: Crop) -> np.ndarray:
    frame = np.zeros(SIZE, bool)
    height, width = crop.mask.shape
    frame[crop.y : crop.y + height, crop.x : crop.x + width] = crop.mask
    return frame


@pytest.mark.parametrize("seed", range(60))
def test_encode_crop_random_box_equals_whole_frame(seed):
    crop = random_crop(seed)
    frame = in_frame(crop)
    expected = encode_mask(frame)["counts"] if frame.any() else None
    assert encode_crop(crop, SIZE) == expected


def test_decode_crops_many_masks_gives_tight_boxes():
    frames = [in_frame(random_crop(seed)) for seed in range(60)]
    frames += [np.zeros(SIZE, bool), np.ones(SIZE, bool)]
    crops = decode_crops([encode_mask(frame) for frame in frames])
    for crop, frame in zip(crops, frames, strict=True):
        np.testing.assert_array_equal(in_frame(crop), frame)
        if frame.any():
            edges = (crop.mask[0], crop.mask[-1], crop.mask[:, 0], crop.mask[:, -1])
            assert all(edge.any() for edge in edges) or crop.mask.shape[0] == SIZE[0]
        else:
            assert crop.mask.shape == (0, 0)


def test_decode_crops_nothing_gives_nothing():
    assert decode_crops([]) == []


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 2)])
def test_encode_crop_without_pixels_is_none(shape):
    assert encode_crop(Crop(np.zeros(shape, bool), 1, 1), SIZE) is None
