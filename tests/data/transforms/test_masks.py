"""Decoding, first visibility and boxes of masks."""

import numpy as np
import pytest

from amodal2.data.transforms import ClipGeometry, decode_masks, first_visible_frames, mask_boxes
from amodal2.data.transforms import masks as masks_module
from amodal2.structures import encode_mask


def random_masks(count, height=9, width=13):
    return np.random.default_rng(1).random((count, height, width)) > 0.6


@pytest.mark.parametrize("chunk", [1, 1 << 26])
@pytest.mark.parametrize(
    "geometry",
    [
        ClipGeometry.resize_to(9, 13, (9, 13)),
        ClipGeometry(crop=(1, 2, 7, 9), size=(14, 20), flip_x=True),
    ],
    ids=["same", "crop_resize_flip"],
)
def test_decode_masks_equals_decode_then_transform(monkeypatch, geometry, chunk):
    monkeypatch.setattr(masks_module, "_CHUNK_BYTES", chunk)
    masks = random_masks(5)
    rles = [encode_mask(mask) for mask in masks]
    rles[2] = None
    masks[2] = False
    decoded = decode_masks(rles, geometry)
    assert decoded.dtype == bool
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, geometry.apply_masks(masks))


@pytest.mark.parametrize("rles", [[], [None, None]])
def test_decode_masks_without_masks_is_empty(rles):
    decoded = decode_masks(rles, ClipGeometry.resize_to(9, 13, (4, 5)))
    assert decoded.shape == (len(rles), 4, 5)
    assert not decoded.any()


def test_first_visible_frames_counts_pixels():
    visible = np.zeros((4, 3, 5, 5), dtype=bool)
    visible[1, 0, 0, :1] = True
    visible[2, 0, 0, :3] = True
    visible[0, 1] = True
    np.testing.assert_array_equal(first_visible_frames(visible, 1), [1, 0, 4])
    np.testing.assert_array_equal(first_visible_frames(visible, 3), [2, 0, 4])


def test_first_visible_frames_zero_pixels_does_not_count_as_seen():
    assert first_visible_frames(np.zeros((2, 1, 3, 3), dtype=bool), 0).tolist() == [2]


def test_mask_boxes_are_tight_and_exclusive():
    masks = np.zeros((2, 2, 6, 8), dtype=bool)
    masks[0, 0, 1:4, 2:7] = True
    masks[1, 1, 5, 7] = True
    boxes = mask_boxes(masks)
    assert boxes.dtype == np.float32
    assert boxes[0, 0].tolist() == [2, 1, 7, 4]
    assert boxes[1, 1].tolist() == [7, 5, 8, 6]
    assert boxes[0, 1].tolist() == [0, 0, 0, 0]


def test_mask_boxes_zero_masks_is_legal():
    assert mask_boxes(np.zeros((3, 0, 6, 8), dtype=bool)).shape == (3, 0, 4)
