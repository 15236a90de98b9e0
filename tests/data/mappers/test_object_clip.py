"""Clips of patches around one object of a video."""

from __future__ import annotations

import pytest
import torch

from amodal2.config import get_cfg
from amodal2.data.mappers import ObjectClipMapper, build_mapper, split_tracks
from amodal2.structures import fields
from tests.engine.toy import LENGTH, make_videos


@pytest.fixture
def video(tmp_path):
    """Return a video of two moving squares; the second one hides parts of the first."""
    return make_videos(tmp_path, 1)[0]


def sample(video, number=1, seed=0, **settings):
    mapper = ObjectClipMapper(**{"is_train": False, "num_frames": 4, "size": 32} | settings)
    return mapper({**video, "object": number}, seed)


def test_split_tracks_gives_objects_that_are_visible_and_have_amodal_masks(video):
    hidden = {**video["annotations"][0], "segmentations": [None] * LENGTH}
    crowd = {**video["annotations"][0], "iscrowd": 1}
    without = {**video["annotations"][0], "amodal_segmentations": None}
    whole = {**video, "annotations": [hidden, video["annotations"][1], crowd, without]}
    assert [item["object"] for item in split_tracks([whole])] == [1]


def test_clip_shows_the_object_at_one_scale(video):
    found = sample(video)
    assert found["image"].shape == (4, 3, 32, 32)
    assert found["frame_indices"] == [0, 1, 2, 3]
    assert len({crop[2:] for crop in found["crops"]}) > 1  # the border cuts some
    largest = max(c[2] for c in found["crops"]), max(c[3] for c in found["crops"])
    for t, (crop, padding) in enumerate(zip(found["crops"], found["paddings"], strict=True)):
        assert padding == (
            32 - round(crop[2] * 32 / largest[0]),
            32 - round(crop[3] * 32 / largest[1]),
        )
        image, mask = found["image"][t], found["input_mask"][t]
        assert image[:, 32 - padding[0] :].sum() == image[:, :, 32 - padding[1] :].sum() == 0
        red, _, blue = image[:, mask].float().mean(1).tolist()
        assert blue > 150 > red
        instance = found["instances"][t]
        assert torch.equal(instance.get(fields.GT_VISIBLE_MASKS)[0], mask)
        assert not (mask & ~instance.get(fields.GT_AMODAL_MASKS)[0]).any()


def test_crops_of_one_frame_each_fill_their_patches(video):
    found = sample(video, scale="frame")
    assert found["paddings"] == [(0, 0)] * 4
    assert len({crop[2:] for crop in found["crops"]}) > 1


def test_unknown_scale_is_named(video):
    with pytest.raises(ValueError, match=r"a scale of .*, got 'object'"):
        sample(video, scale="object")


def test_short_videos_repeat_their_last_frame(video):
    found = sample(video, num_frames=LENGTH + 2)
    assert found["frame_indices"] == [*range(LENGTH), LENGTH - 1, LENGTH - 1]
    assert torch.equal(found["image"][-1], found["image"][LENGTH - 1])


def test_hidden_frames_take_the_nearest_visible_box(video):
    track = video["annotations"][1]
    track["segmentations"][1] = track["segmentations"][2] = None
    found = sample(video)
    assert found["crops"][1] == found["crops"][0]
    assert found["crops"][2] == found["crops"][3]
    assert not found["input_mask"][1].any()


def test_training_draws_start_flip_and_noise_from_the_seed(video):
    settings = {"is_train": True, "flip": True, "noise": "cocoa", "size": 64}
    many = [sample(video, seed=seed, **settings) for seed in range(12)]
    again = sample(video, seed=3, **settings)
    assert torch.equal(many[3]["image"], again["image"])
    assert torch.equal(many[3]["input_mask"], again["input_mask"])
    assert len({found["frame_indices"][0] for found in many}) > 2
    truth = [torch.cat([i.get(fields.GT_VISIBLE_MASKS) for i in f["instances"]]) for f in many]
    changed = [not torch.equal(f["input_mask"], t) for f, t in zip(many, truth, strict=True)]
    assert any(changed)


def test_training_shows_the_object_where_it_is_visible(video):
    video["annotations"][1]["segmentations"][:7] = [None] * 7
    starts = {
        sample(video, seed=s, is_train=True, num_frames=2)["frame_indices"][0] for s in range(6)
    }
    assert starts == {6}


def test_mapper_follows_the_keys(video):
    cfg = get_cfg()
    cfg.INPUT.AMODAL.MAPPER = "ObjectClipMapper"
    cfg.INPUT.AMODAL.PATCH_SIZE, cfg.INPUT.AMODAL.CLIP_LEN, cfg.INPUT.AMODAL.NUM_CLIPS = 48, 3, 2
    mapper = build_mapper(cfg, is_train=False)
    assert mapper({**video, "object": 0}, 0)["image"].shape == (6, 3, 48, 48)


@pytest.mark.parametrize(
    "settings", [{"num_frames": 0}, {"enlarge": (0.5, 1.0)}, {"enlarge": (2.0, 1.0)}]
)
def test_wrong_settings_are_named(settings):
    with pytest.raises(ValueError, match="expected at least 1 frame and 1 <= smallest <= largest"):
        ObjectClipMapper(**{"is_train": True, "num_frames": 2} | settings)
