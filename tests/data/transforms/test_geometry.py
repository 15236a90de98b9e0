"""Crop, resize and flip of clips."""

import numpy as np
import pytest

from amodal2.config import get_cfg
from amodal2.data.transforms import ClipGeometry, GeometrySampler, shortest_edge_size


@pytest.mark.parametrize(
    ("args", "size"),
    [
        ((160, 240, 0, 0), (160, 240)),
        ((160, 240, 80, 0), (80, 120)),
        ((240, 160, 80, 0), (120, 80)),
        ((160, 240, 320, 400), (267, 400)),
        ((100, 100, 33, 50), (33, 33)),
        ((1, 1000, 1, 100), (1, 100)),
    ],
)
def test_shortest_edge_size_keeps_the_aspect_ratio(args, size):
    assert shortest_edge_size(*args) == size


def make_clip(height=12, width=18):
    """Frames whose red channel tells the row and whose green channel tells the column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8) * 10
    frame = np.stack([rows, columns, np.zeros_like(rows)], axis=-1)
    return np.stack([frame, frame])


@pytest.mark.parametrize("flip_x", [False, True])
@pytest.mark.parametrize("flip_y", [False, True])
def test_clip_geometry_frames_and_masks_move_together(flip_x, flip_y):
    frames = make_clip()
    geometry = ClipGeometry(crop=(2, 3, 8, 12), size=(16, 24), flip_x=flip_x, flip_y=flip_y)
    masks = frames[..., 1] >= 90  # the columns from 9 on
    moved, moved_masks = geometry.apply_frames(frames), geometry.apply_masks(masks)
    assert moved.shape == (2, 16, 24, 3)
    assert moved_masks.shape == (2, 16, 24)
    agreement = (moved[..., 1] >= 86) == moved_masks
    assert agreement.all()
    ascending = moved[0, 0, 0, 1] < moved[0, 0, -1, 1]
    assert ascending != flip_x
    assert (moved[0, 0, 0, 0] < moved[0, -1, 0, 0]) != flip_y


def test_clip_geometry_crop_without_resize_equals_slicing():
    frames = make_clip()
    moved = ClipGeometry(crop=(1, 2, 5, 6), size=(5, 6)).apply_frames(frames)
    np.testing.assert_array_equal(moved, frames[:, 1:6, 2:8])
    assert moved.flags.c_contiguous


@pytest.mark.parametrize(("source", "target"), [(7, 3), (3, 7), (10, 10), (1, 4)])
def test_clip_geometry_masks_take_the_nearest_centre(source, target):
    mask = np.zeros((1, source, source), dtype=bool)
    mask[0, source // 2] = True
    geometry = ClipGeometry.resize_to(source, source, (target, target))
    rows = geometry.apply_masks(mask)[0, :, 0]
    centres = (np.arange(target) + 0.5) * source / target
    np.testing.assert_array_equal(rows, np.floor(centres).astype(int) == source // 2)


def test_clip_geometry_zero_masks_is_legal():
    geometry = ClipGeometry.resize_to(8, 8, (4, 4))
    assert geometry.apply_masks(np.zeros((0, 8, 8), dtype=bool)).shape == (0, 4, 4)


CROPS = {
    "relative": (0.5, 0.25),
    "relative_range": (0.5, 0.25),
    "absolute": (30, 500),
    "absolute_range": (20, 60),
}


@pytest.mark.parametrize("kind", list(CROPS))
def test_geometry_sampler_crops_stay_inside_and_in_range(kind):
    sampler = GeometrySampler(short_edges=[0], longest=0, crop_type=kind, crop_size=CROPS[kind])
    rng = np.random.default_rng(0)
    crops = np.array([sampler(rng, 40, 80).crop for _ in range(200)])
    top, left, height, width = crops.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 40).all()
    assert (left + width <= 80).all()
    limits = {
        "relative": ((20, 20), (20, 20)),
        "relative_range": ((20, 40), (20, 80)),
        "absolute": ((30, 30), (80, 80)),
        "absolute_range": ((20, 40), (20, 60)),
    }[kind]
    assert (height.min(), height.max()) == limits[0] or kind.endswith("range")
    for values, (low, high) in zip((height, width), limits, strict=True):
        assert low <= values.min() <= low + 4
        assert high - 4 <= values.max() <= high


def test_geometry_sampler_range_draws_every_size_between():
    sampler = GeometrySampler(short_edges=[10, 13], longest=0, sampling="range_by_clip")
    rng = np.random.default_rng(0)
    shorts = {min(sampler(rng, 40, 80).size) for _ in range(100)}
    assert shorts == {10, 11, 12, 13}


@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical"])
def test_geometry_sampler_flips_half_of_the_samples(flip):
    sampler = GeometrySampler(short_edges=[], longest=0, flip=flip)
    rng = np.random.default_rng(0)
    drawn = [sampler(rng, 8, 8) for _ in range(400)]
    share_x = np.mean([g.flip_x for g in drawn])
    share_y = np.mean([g.flip_y for g in drawn])
    assert share_x == pytest.approx(0.5 if flip == "horizontal" else 0, abs=0.1)
    assert share_y == pytest.approx(0.5 if flip == "vertical" else 0, abs=0.1)


def test_geometry_sampler_from_config_reads_detectron2_keys():
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (10, 20)
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice_by_clip"
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = [16, 24]
    cfg.INPUT.RANDOM_FLIP = "none"
    rng = np.random.default_rng(0)
    drawn = [GeometrySampler.from_config(cfg)(rng, 40, 80) for _ in range(30)]
    assert {g.size for g in drawn} == {(10, 15), (20, 30)}
    assert {g.crop[2:] for g in drawn} == {(16, 24)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling": "all"}, "expected sampling 'choice' or 'range'"),
        ({"sampling": "range"}, "expected two short edges"),
        ({"crop_type": "random"}, "expected a crop type"),
        ({"flip": "both"}, "expected a flip"),
    ],
)
def test_geometry_sampler_wrong_setting_raises(settings, message):
    with pytest.raises(ValueError, match=message):
        GeometrySampler(**{"short_edges": [10], "longest": 0, **settings})
