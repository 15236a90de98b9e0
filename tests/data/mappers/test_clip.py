"""Training samples and test videos of the clip mapper."""

import copy
import pickle

import numpy as np
import pytest
import torch

from amodal2.data.mappers import ClipMapper
from amodal2.data.mappers import clip as clip_module
from amodal2.data.transforms import ClipGeometry, GeometrySampler
from amodal2.structures import decode_rle, encode_mask, fields
from tests.engine.toy import LENGTH, SIZE, make_videos


@pytest.fixture
def video(tmp_path):
    return make_videos(tmp_path, num_videos=1)[0]


def make_mapper(**changes):
    settings = {
        "is_train": True,
        "clip_len": 2,
        "num_clips": 2,
        "frame_range": 4,
        "geometry": None,
        **changes,
    }
    return ClipMapper(**settings)


def stack(sample, name):
    return torch.stack([k.get(name) for k in sample["instances"]])


def set_masks(video, track, key, value, frames):
    for t in frames:
        video["annotations"][track][key][t] = value


def test_clip_mapper_without_transforms_gives_frames_and_masks_of_the_file(video):
    sample = make_mapper()(video, 5)
    indices = sample["frame_indices"]
    assert sample["frames"].shape == (4, 3, *SIZE)
    assert sample["frames"].dtype == torch.uint8
    assert (sample["video_id"], sample["height"], sample["width"]) == (1, *SIZE)
    assert sample["sample_seed"] == 5
    for t, index in enumerate(indices):
        instances = sample["instances"][t]
        assert instances.image_size == SIZE
        assert instances.get(fields.GT_IDS).tolist() == [1, 2]
        assert instances.get(fields.GT_CLASSES).tolist() == [0, 1]
        for n, track in enumerate(video["annotations"]):
            visible = instances.get(fields.GT_VISIBLE_MASKS)[n].numpy()
            rle = track["segmentations"][index]
            assert np.array_equal(visible, decode_rle(rle) if rle else np.zeros(SIZE, bool))
        second = sample["frames"][t].permute(1, 2, 0)[instances.get(fields.GT_VISIBLE_MASKS)[1]]
        assert (second == torch.tensor([40, 40, 220], dtype=torch.uint8)).all()


def test_clip_mapper_same_seed_gives_the_same_sample(video):
    geometry = GeometrySampler(
        short_edges=[16, 24], longest=0, crop_type="relative_range", crop_size=(0.7, 0.7)
    )
    mapper = make_mapper(geometry=geometry, color_jitter=0.3)
    before = copy.deepcopy(video)
    first, again, other = (
        mapper(video, 11),
        pickle.loads(pickle.dumps(mapper))(video, 11),
        mapper(video, 12),
    )
    assert torch.equal(first["frames"], again["frames"])
    assert torch.equal(stack(first, fields.GT_AMODAL_MASKS), stack(again, fields.GT_AMODAL_MASKS))
    assert first["frames"].shape != other["frames"].shape or not torch.equal(
        first["frames"], other["frames"]
    )
    assert video == before


def test_clip_mapper_transforms_move_frames_and_masks_together(video):
    """The second square lies in front, so its colour tells where its visible mask must be."""
    geometry = GeometrySampler(
        short_edges=[48], longest=0, crop_type="relative_range", crop_size=(0.8, 0.8)
    )
    for seed in range(6):
        sample = make_mapper(geometry=geometry)(video, seed)
        ids = sample["instances"][0].get(fields.GT_IDS).tolist()
        if 2 not in ids:
            continue
        masks = stack(sample, fields.GT_VISIBLE_MASKS)[:, ids.index(2)]
        frames = sample["frames"].int()
        blue = (frames[:, 2] > 140) & (frames[:, 0] < 130)
        union = (blue | masks).sum()
        assert (blue & masks).sum() / union > 0.85


def test_clip_mapper_crop_recomputes_visibility(video):
    """A crop that keeps only hidden pixels makes the track unseen."""
    hidden = np.zeros(SIZE, bool)
    hidden[:, :16] = True
    seen = np.zeros(SIZE, bool)
    seen[:, 16:] = True
    set_masks(video, 0, "segmentations", encode_mask(seen), range(LENGTH))
    set_masks(video, 0, "amodal_segmentations", encode_mask(hidden | seen), range(LENGTH))
    left = make_mapper(geometry=lambda rng, h, w: ClipGeometry((0, 0, h, 12), (h, 12)))
    right = make_mapper(geometry=lambda rng, h, w: ClipGeometry((0, 16, h, 12), (h, 12)))
    assert 1 not in left(video, 0)["instances"][0].get(fields.GT_IDS)
    sample = right(video, 0)
    assert 1 in sample["instances"][0].get(fields.GT_IDS)
    assert stack(sample, fields.GT_AMODAL_MASKS)[:, 0].all()


def test_clip_mapper_amodal_is_empty_before_first_visible_frame(video):
    set_masks(video, 0, "segmentations", None, range(5))
    set_masks(video, 0, "segmentations", None, range(6, LENGTH))
    full = np.ones(SIZE, bool)
    set_masks(video, 0, "segmentations", encode_mask(full), [5])
    set_masks(video, 0, "amodal_segmentations", encode_mask(full), range(LENGTH))
    sample = make_mapper(clip_len=LENGTH, num_clips=1)(video, 0)
    amodal = stack(sample, fields.GT_AMODAL_MASKS)[:, 0].flatten(1).any(1)
    visible = stack(sample, fields.GT_VISIBLE_MASKS)[:, 0].flatten(1).any(1)
    assert visible.tolist() == [False] * 5 + [True] + [False] * 2
    assert amodal.tolist() == [False] * 5 + [True] * 3
    boxes = torch.stack([k.get(fields.GT_AMODAL_BOXES).tensor for k in sample["instances"]])
    assert boxes[4, 0].tolist() == [0, 0, 0, 0]
    assert boxes[7, 0].tolist() == [0, 0, SIZE[1], SIZE[0]]


def test_clip_mapper_few_visible_pixels_do_not_count_as_seen(video):
    few = np.zeros(SIZE, bool)
    few[0, :3] = True
    set_masks(video, 0, "segmentations", encode_mask(few), range(LENGTH))
    kept = make_mapper(min_visible_px=3)(video, 0)["instances"][0].get(fields.GT_IDS)
    dropped = make_mapper(min_visible_px=4)(video, 0)["instances"][0].get(fields.GT_IDS)
    assert 1 in kept
    assert 1 not in dropped


def test_clip_mapper_crowd_and_unseen_tracks_are_left_out(video):
    video["annotations"][0]["iscrowd"] = 1
    set_masks(video, 1, "segmentations", None, range(LENGTH))
    sample = make_mapper()(video, 0)
    assert len(sample["instances"]) == 4
    assert len(sample["instances"][0]) == 0
    assert stack(sample, fields.GT_VISIBLE_MASKS).shape == (4, 0, *SIZE)
    assert stack(sample, fields.GT_AMODAL_MASKS).shape == (4, 0, *SIZE)


def test_clip_mapper_video_without_amodal_masks_gives_visible_ones_only(video):
    whole = make_mapper()(video, 5)
    for track in video["annotations"]:
        track["amodal_segmentations"] = None
    sample = make_mapper()(video, 5)
    for instances, expected in zip(sample["instances"], whole["instances"], strict=True):
        assert not instances.has(fields.GT_AMODAL_MASKS)
        assert not instances.has(fields.GT_AMODAL_BOXES)
        visible = expected.get(fields.GT_VISIBLE_MASKS)
        assert torch.equal(instances.get(fields.GT_VISIBLE_MASKS), visible)
        boxes = expected.get(fields.GT_VISIBLE_BOXES).tensor
        assert torch.equal(instances.get(fields.GT_VISIBLE_BOXES).tensor, boxes)


def test_clip_mapper_draws_frames_that_show_an_object(video):
    for track in range(2):
        set_masks(video, track, "segmentations", None, range(1, LENGTH))
    mapper = make_mapper(clip_len=1, num_clips=1, frame_range=0)
    hits = [mapper(video, seed)["frame_indices"] == [0] for seed in range(40)]
    assert np.mean(hits) > 0.5


def test_clip_mapper_reads_only_the_sampled_frames(video, monkeypatch):
    read = []
    original = clip_module.open_frames

    def spy(source):
        opened = original(source)
        inner = opened.read
        opened.read = lambda indices: read.extend(indices) or inner(indices)
        return opened

    monkeypatch.setattr(clip_module, "open_frames", spy)
    sample = make_mapper(clip_len=3, num_clips=1)(video, 1)
    assert read == sample["frame_indices"]


def still(video):
    """The first frame of a video as a video of its own."""
    for track in video["annotations"]:
        for key in ("segmentations", "amodal_segmentations"):
            track[key] = track[key][:1]
    return {**video, "length": 1, "file_names": video["file_names"][:1]}


def test_clip_mapper_still_image_becomes_a_clip_under_a_moving_camera(video):
    image = still(video)
    mapper = make_mapper(pseudo={"rotation": 15.0, "zoom": 0.2, "shift": 0.1})
    for seed in range(4):
        sample = mapper(image, seed)
        assert sample["frame_indices"] == [0] * 4
        assert sample["frames"].shape == (4, 3, *SIZE)
        frames = sample["frames"].int()
        assert not torch.equal(frames[0], frames[3])
        ids = sample["instances"][0].get(fields.GT_IDS).tolist()
        masks = stack(sample, fields.GT_VISIBLE_MASKS)[:, ids.index(2)]
        assert (masks <= stack(sample, fields.GT_AMODAL_MASKS)[:, ids.index(2)]).all()
        blue = (frames[:, 2] > 140) & (frames[:, 0] < 110)
        assert (blue & masks).sum() / (blue | masks).sum() > 0.8
    again = mapper(image, 3)
    assert torch.equal(again["frames"], sample["frames"])
    assert len(make_mapper()(image, 3)["frames"]) == 1


@pytest.mark.parametrize("change", [{"zoom": 1.0}, {"shift": -0.1}])
def test_clip_mapper_impossible_camera_raises(change):
    with pytest.raises(ValueError, match="PSEUDO limits of at least 0 and ZOOM below 1"):
        make_mapper(pseudo={"rotation": 15.0, "zoom": 0.2, "shift": 0.1, **change})


def test_clip_mapper_pseudo_clips_leave_videos_alone(video):
    moving = make_mapper(pseudo={"rotation": 15.0, "zoom": 0.2, "shift": 0.1})
    assert torch.equal(moving(video, 5)["frames"], make_mapper()(video, 5)["frames"])


def test_clip_mapper_test_mode_decodes_on_demand(video, monkeypatch):
    mapper = make_mapper(is_train=False, test_size=(12, 100))
    sample = mapper(video)
    assert "instances" not in sample
    assert sample["length"] == len(sample["frames"]) == LENGTH
    assert sample["frames"].clip(0, 3).shape == (3, 3, 12, 16)
