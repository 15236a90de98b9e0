"""Cutting out and pasting back."""

import numpy as np
import pytest
import torch

from amodal2.modeling.completion.crops import (
    CropRule,
    crop_patches,
    crop_windows,
    mean_motion,
    paste_patches,
)


def paste_slowly(patch, window, size, shift):
    """The formula of the specification, pixel by pixel."""
    height, width = patch.shape
    r1, c1, r2, c2 = window
    out = np.zeros(size)
    for r in range(size[0]):
        for c in range(size[1]):
            y = (r + 0.5 - r1) * height / (r2 - r1) - 0.5 + shift[0]
            x = (c + 0.5 - c1) * width / (c2 - c1) - 0.5 + shift[1]
            for i in range(height):
                for j in range(width):
                    out[r, c] += patch[i, j] * max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j))
    return out


@pytest.mark.parametrize("window", [(2, 3, 8, 11), (-2.5, 1.0, 4.5, 20.0), (0, 0, 3, 4)])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, 0.0)])
def test_paste_patches_follows_the_formula(window, shift):
    patch = torch.rand(5, 6, dtype=torch.float64)
    got = paste_patches(patch[None, None], torch.tensor([window]), (12, 14), shift)[0, 0]
    np.testing.assert_allclose(got, paste_slowly(patch.numpy(), window, (12, 14), shift), atol=1e-6)


def test_cut_windows_end_at_the_border_of_the_frame():
    boxes = np.array([[0.0, 2.0, 5.0, 6.0], [4.0, 4.0, 6.0, 8.0]])
    rule = CropRule((8, 8), enlarge=2.0, follow="visible", inside=True)
    found = crop_windows(boxes, rule, (8, 10))
    # Without the border: rows -1.5 to 6.5 (no more than the frame) and 3 to 7.
    assert found.tolist() == [[0, 0, 7, 8], [3, 2, 7, 10]]


def test_paste_patches_of_ones_fills_the_box():
    full = paste_patches(torch.ones(1, 1, 64, 128), torch.tensor([[3.0, 5, 20, 30]]), (32, 40))
    expected = torch.zeros(32, 40)
    expected[3:20, 5:30] = 1
    assert torch.equal((full[0, 0] >= 0.5).float(), expected)


def test_crop_patches_at_the_same_size_is_a_slice():
    image = torch.rand(1, 2, 12, 15)
    got = crop_patches(image, torch.tensor([[2.0, 3, 9, 12]]), (7, 9))
    torch.testing.assert_close(got, image[..., 2:9, 3:12])


def test_crop_patches_beyond_the_frame_is_zero():
    got = crop_patches(torch.ones(1, 1, 6, 6), torch.tensor([[-3.0, 0, 3, 6]]), (6, 6))
    assert got[0, 0, :3].eq(0).all()
    torch.testing.assert_close(got[0, 0, 3:], torch.ones(3, 6))


def test_crop_patches_shrinking_averages():
    image = torch.zeros(1, 1, 8, 8)
    image[..., ::2] = 1
    got = crop_patches(image, torch.tensor([[0.0, 0, 8, 8]]), (2, 2))
    assert (got - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("window", [(4, 6, 20, 30), (3.5, 2.25, 20.5, 25.75)])
def test_paste_of_a_crop_gives_the_image_back(window):
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    image = (rows + 2 * columns)[None, None]
    windows = torch.tensor([window])
    back = paste_patches(crop_patches(image, windows, (64, 128)), windows, (24, 32))
    inner = slice(int(window[0]) + 2, int(window[2]) - 2), slice(8, int(window[3]) - 2)
    torch.testing.assert_close(back[0, 0][inner], image[0, 0][inner], atol=0.02, rtol=0)


def test_mean_motion_without_visible_pixels_is_zero():
    flow = torch.full((2, 2, 4, 4), 3.0)
    visible = torch.zeros(2, 4, 4, dtype=torch.bool)
    visible[1, 0, 0] = True
    assert mean_motion(flow, visible).tolist() == [[0, 0], [3, 3]]


_BOXES = np.array([[2.0, 2, 8, 10], [np.nan] * 4, [4, 6, 10, 14]])


def test_crop_windows_clip_is_one_window_in_whole_pixels():
    windows = crop_windows(_BOXES, CropRule(enlarge=1.5, margin=1), (12, 40))
    assert windows.tolist() == [[0, 0, 12, 17]] * 3


def test_crop_windows_visible_interpolates_hidden_frames():
    windows = crop_windows(_BOXES, CropRule((8, 8), follow="visible"), (100, 100))
    assert windows[1].tolist() == [3, 4, 9, 12]


def test_crop_windows_motion_ignores_what_hides_the_object():
    boxes = np.array([[10.0, 10, 20, 20], [10, 17, 20, 22], [10, 14, 20, 24]])
    motion, areas = np.array([[0.0, 2], [0, 2], [0, 0]]), np.array([100.0, 50, 100])
    rule = CropRule((8, 8), enlarge=1.5, follow="motion")
    windows = crop_windows(boxes, rule, (40, 40), motion=motion, areas=areas)
    assert np.diff(windows, axis=0).tolist() == [[0, 2, 0, 2]] * 2
    assert (windows[0, 2:] - windows[0, :2]).tolist() == [15, 15]


def test_crop_windows_nothing_visible_raises():
    with pytest.raises(ValueError, match="expected an object with visible pixels, got none"):
        crop_windows(np.full((2, 4), np.nan), CropRule(), (8, 8))


@pytest.mark.parametrize(
    "options",
    [{"follow": "other"}, {"enlarge": 0.5}, {"margin": -1}, {"follow": "visible"}],
)
def test_crop_rule_wrong_values_raise(options):
    with pytest.raises(ValueError, match="CropRule: expected"):
        CropRule(**options)
