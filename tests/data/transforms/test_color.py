"""Colour changes."""

import numpy as np
import pytest

from amodal2.data.transforms import ColorChange, random_color_change


def make_frames():
    return np.random.default_rng(0).integers(60, 180, size=(3, 96, 120, 3), dtype=np.uint8)


def test_color_change_one_is_identity():
    frames = make_frames()
    assert ColorChange().apply_frames(frames) is frames


def test_color_change_brightness_scales_values():
    frames = make_frames()
    changed = ColorChange(brightness=1.2).apply_frames(frames)
    expected = np.clip(np.floor(frames * np.float64(1.2) + 0.5), 0, 255)
    assert np.abs(changed - expected).max() <= 1


def test_color_change_zero_saturation_is_grey():
    changed = ColorChange(saturation=0.0).apply_frames(make_frames()).astype(int)
    assert np.ptp(changed, axis=-1).max() <= 1


def test_color_change_contrast_keeps_the_mean_luma():
    frames = make_frames()
    changed = ColorChange(contrast=0.5).apply_frames(frames)
    luma = np.array([0.299, 0.587, 0.114])
    assert (changed @ luma).mean() == pytest.approx((frames @ luma).mean(), abs=1.0)
    assert changed.std() == pytest.approx(0.5 * frames.std(), rel=0.1)


def test_color_change_saturates_instead_of_wrapping():
    frames = np.full((1, 4, 4, 3), 250, dtype=np.uint8)
    assert (ColorChange(brightness=1.5).apply_frames(frames) == 255).all()
    dark = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    dark[0, 0, 0] = 255
    assert ColorChange(contrast=2.0).apply_frames(dark).min() == 0


def test_random_color_change_strength_bounds_the_factors():
    rng = np.random.default_rng(0)
    drawn = [random_color_change(rng, 0.3) for _ in range(300)]
    values = np.array([[c.brightness, c.contrast, c.saturation] for c in drawn])
    assert (values.min(0) >= 0.7).all()
    assert (values.max(0) <= 1.3).all()
    assert (np.ptp(values, axis=0) > 0.5).all()


def test_random_color_change_same_generator_state_gives_same_change():
    a, b = (random_color_change(np.random.default_rng(4), 0.3) for _ in range(2))
    assert a == b
    assert random_color_change(np.random.default_rng(4), 0.0) == ColorChange()


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_random_color_change_strength_outside_raises(strength):
    with pytest.raises(ValueError, match=r"expected a strength in \[0, 1\]"):
        random_color_change(np.random.default_rng(0), strength)
