"""Whole frames with one object, its depth and pasted occluders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amodal2.config import get_cfg
from amodal2.data.mappers import ObjectVideoMapper, build_mapper, split_video_objects
from amodal2.data.mappers.object_video import visible_share
from amodal2.structures.rle import decode_rle
from tests.engine import toy


@pytest.fixture
def objects(tmp_path: Path) -> list[dict[str, Any]]:
    videos = toy.make_videos(tmp_path)
    for video in videos:
        video["depth_order"] = [[2, 1]] * toy.LENGTH
    return split_video_objects(videos)


def test_split_video_objects_one_dict_per_object_with_other_occluders(
    objects: list[dict[str, Any]],
) -> None:
    assert len(objects) == 8
    for item in objects:
        own = item["annotations"][item["object"]]["amodal_segmentations"]
        assert all(tube is not own for tube in item["occluders"])
        assert len(item["occluders"]) >= 6


def test_object_video_mapper_whole_frames_are_the_annotated_masks(
    objects: list[dict[str, Any]],
) -> None:
    mapper = ObjectVideoMapper(is_train=False, num_frames=10, size=toy.SIZE)
    item = objects[0]
    sample = mapper(item)
    assert sample["frame_indices"] == [*range(8), 7, 7]
    track = item["annotations"][0]
    for t in range(8):
        for name, key in (("visible", "segmentations"), ("amodal", "amodal_segmentations")):
            rle = track[key][t]
            expected = np.zeros(toy.SIZE, bool) if rle is None else decode_rle(rle)
            np.testing.assert_array_equal(sample[name][t], expected)
    assert sample["frames"].shape == (10, 3, *toy.SIZE)
    red = sample["frames"][:, 0] == 220
    assert torch.equal(red & sample["visible"], sample["visible"])
    other = sample["amodal"] & ~sample["visible"]
    assert (sample["depth"][sample["visible"]] == 0.5).all()
    assert (sample["depth"][other] == 1).all()


def test_object_video_mapper_pastes_until_it_is_occluded(objects: list[dict[str, Any]]) -> None:
    keys = {"is_train": True, "num_frames": 4, "size": (12, 16)}
    plain = ObjectVideoMapper(**keys)
    pasted = ObjectVideoMapper(**keys, paste=5, visibility=0.7)
    shares = []
    for seed, item in enumerate(objects):
        before, after = plain(item, seed), pasted(item, seed)
        assert torch.equal(before["amodal"], after["amodal"])
        assert not (after["visible"] & ~before["visible"]).any()
        shares.append(
            [visible_share(s["visible"].numpy(), s["amodal"].numpy()) for s in (before, after)]
        )
    assert sum(after < before for before, after in shares) >= 4


def test_object_video_mapper_crop_shows_twice_the_box(objects: list[dict[str, Any]]) -> None:
    mapper = ObjectVideoMapper(is_train=False, num_frames=2, size=(32, 32), crop="amodal")
    sample = mapper(objects[1])
    share = sample["amodal"].float().mean((1, 2))
    assert ((share > 0.2) & (share < 0.6)).all()


def test_object_video_mapper_same_seed_same_sample(objects: list[dict[str, Any]]) -> None:
    cfg = get_cfg()
    cfg.INPUT.AMODAL.MAPPER = "ObjectVideoMapper"
    cfg.INPUT.AMODAL.COLOR_JITTER = 0.5
    cfg.INPUT.AMODAL.NUM_CLIPS = 1
    cfg.MODEL.DIFFUSION_VAS.IMAGE_SIZE = (12, 16)
    cfg.MODEL.DIFFUSION_VAS.CONDITIONS = ("mask", "rgb")
    mapper = build_mapper(cfg, is_train=True)
    one, same, other = (mapper(objects[0], seed) for seed in (1, 1, 2))
    assert torch.equal(one["frames"], same["frames"])
    assert not torch.equal(one["frames"], other["frames"])


def test_object_video_mapper_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 frame, depth of"):
        ObjectVideoMapper(is_train=True, num_frames=3, size=(8, 8), depth="laser")


def test_visible_share_leaves_empty_frames_out() -> None:
    amodal = np.zeros((3, 4, 4), bool)
    amodal[:2, :2] = True
    visible = amodal.copy()
    visible[1] = False
    assert visible_share(visible, amodal) == 0.5
    assert visible_share(amodal[2:], amodal[2:]) == 0
