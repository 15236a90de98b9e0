"""Random changes of visible masks."""

from __future__ import annotations

import numpy as np
import pytest

from amodal2.data.transforms import MaskNoise, mask_noise


def square(side=256, half=50):
    mask = np.zeros((side, side), bool)
    mask[side // 2 - half : side // 2 + half, side // 2 - half : side // 2 + half] = True
    return mask


def apply(noise, seed, mask=None):
    mask = square() if mask is None else mask
    return noise.apply(mask, np.random.default_rng(seed))


def test_none_leaves_masks_alone():
    assert mask_noise("none") is None
    assert np.array_equal(apply(MaskNoise(0.0, 0.0, 0.5, 0.5), 0), square())


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"one of .*'kins'.*, got 'coco'"):
        mask_noise("coco")


@pytest.mark.parametrize("seed", range(6))
def test_dilation_contains_the_mask_and_erosion_is_inside(seed):
    grown = apply(MaskNoise(0.0, 1.0, 1.0, 0.0), seed)
    assert grown[square()].all()
    assert 4 <= (grown.sum() ** 0.5 - 100) <= 48
    shrunk = apply(MaskNoise(0.0, 1.0, -1.0, 0.0), seed)
    assert not shrunk[~square()].any()
    assert 4 <= (100 - shrunk.sum() ** 0.5) <= 48


def test_blur_rounds_the_corners_and_keeps_the_sides():
    found = apply(MaskNoise(1.0, 0.0, 0.5, 0.5), 0)
    assert not found[78, 78]
    assert found[79:177, 128].all()
    assert not found[:77].any()


def test_kernels_scale_with_the_patch():
    small = apply(MaskNoise(0.0, 1.0, 1.0, 0.0), 2, square(64, 12))
    large = apply(MaskNoise(0.0, 1.0, 1.0, 0.0), 2, square(256, 48))
    assert abs(4 * (small.sum() ** 0.5 - 24) - (large.sum() ** 0.5 - 96)) <= 16


@pytest.mark.parametrize(("name", "share"), [("kins", 0.4), ("cocoa", 0.1), ("video", 0.4)])
def test_official_settings_leave_their_share_of_masks_alone(name, share):
    mask = square(32, 8)
    rng = np.random.default_rng(0)
    noise = mask_noise(name)
    kept = np.mean([noise.apply(mask, rng) is mask for _ in range(1000)])
    assert abs(kept - share) < 0.05
