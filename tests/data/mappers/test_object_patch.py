from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg as get_stock_cfg
from detectron2.data import build_detection_train_loader

from amodal2.config import get_cfg
from amodal2.data.datasets import load_amodal_coco_json
from amodal2.data.mappers import ObjectPatchMapper, build_mapper, split_objects
from amodal2.data.mappers.object_patch import enlarged_crop, repeat_hidden
from amodal2.structures import encode_mask
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import write

SIZE = (40, 60)
RED, BLUE = (200, 0, 0), (0, 0, 200)


def block(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


NEAR, FAR, NOTHING = block(10, 20, 30, 40), block(4, 6, 24, 26), block(0, 0, 0, 0)


def record(number: int, amodal: np.ndarray, visible: np.ndarray, **keys: object) -> dict:
    masks = {"amodal_segm": encode_mask(amodal), "visible_segm": encode_mask(visible)}
    return thing(number, **masks, **keys)


@pytest.fixture
def picture(tmp_path):
    """Return an image with a blue object before a red one, a hidden one and a crowd."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[FAR], image[NEAR] = RED, BLUE
    cv2.imwrite(str(tmp_path / "1.png"), image[..., ::-1])
    data = image_content(
        record(11, NEAR, NEAR, iscrowd=1),
        record(12, NEAR, NEAR),
        record(13, FAR, FAR & ~NEAR),
        record(14, FAR, NOTHING),
    )
    data["images"][0].update(height=SIZE[0], width=SIZE[1])
    (found,) = load_amodal_coco_json(write(tmp_path, data), tmp_path)
    return found


def test_split_objects_gives_each_object_that_can_be_completed(picture):
    items = split_objects([picture])
    assert [item["object"] for item in items] == [1, 2]
    mapper = ObjectPatchMapper(is_train=False)
    assert [mapper(item)["annotation_id"] for item in items] == [12, 13]


def test_repeat_hidden_lists_hidden_objects_more_often():
    items = [
        {"annotations": [{"occlusion_rate": rate} for rate in (0.5, 0.09, 0.1)], "object": number}
        for number in range(3)
    ]
    assert [item["object"] for item in repeat_hidden(items, 3)] == [0, 0, 0, 1, 2, 2, 2]
    assert repeat_hidden(items, 1) == items


def test_repeat_hidden_refuses_whole_images_and_no_time():
    with pytest.raises(ValueError, match="one object for 2 times, got whole images"):
        repeat_hidden([{"annotations": []}], 2)
    with pytest.raises(ValueError, match="at least 1 time, got 0"):
        repeat_hidden([], 0)


@pytest.mark.parametrize(
    ("box", "factor", "expected"),
    [
        pytest.param([20, 10, 20, 10], 2.0, (5, 10, 21, 41), id="inside"),
        pytest.param([0, 0, 10, 10], 2.0, (0, 0, 16, 16), id="cut-not-shifted"),
        pytest.param([50, 30, 10, 10], 2.0, (25, 45, 15, 15), id="cut-at-the-end"),
        pytest.param([20, 10, 5, 5], 1.0, (10, 20, 5, 5), id="odd"),
    ],
)
def test_enlarged_crop_follows_the_integer_rule(box, factor, expected):
    assert enlarged_crop(box, factor, SIZE) == expected


def test_object_patch_mapper_masks_and_image_show_the_same_crop(picture):
    """At the patch's own size nothing is resampled."""
    mapper = ObjectPatchMapper(is_train=False, size=41, enlarge=(2.0, 2.0), box="amodal")
    item = split_objects([picture])[0]
    whole = mapper(item | {"object": 1})
    assert whole["crop"] == (0, 10, 40, 41)
    sample = ObjectPatchMapper(is_train=False, size=21, enlarge=(1.0, 1.0))(item)
    top, left, height, width = sample["crop"]
    assert (height, width) == (21, 21)
    area = np.s_[top : top + height, left : left + width]
    instances = sample["instances"]
    assert len(instances) == 1
    assert np.array_equal(instances.gt_visible_masks[0], NEAR[area])
    assert np.array_equal(instances.gt_occluder_masks[0], (FAR & ~NEAR & NEAR)[area])
    blue = sample["image"].permute(1, 2, 0)[instances.gt_visible_masks[0]]
    assert (blue == torch.tensor(BLUE, dtype=torch.uint8)).all()


def test_object_patch_mapper_patch_has_the_amodal_mask_and_the_occluder(picture):
    mapper = ObjectPatchMapper(is_train=False, size=64, enlarge=(2.0, 2.0))
    instances = mapper(picture | {"object": 2})["instances"]
    assert instances.image_size == (64, 64)
    hidden = instances.gt_amodal_masks & ~instances.gt_visible_masks
    assert hidden.any()
    assert torch.equal(hidden, instances.gt_occluder_masks & instances.gt_amodal_masks)
    assert torch.equal(instances.gt_masks.tensor, instances.gt_amodal_masks)


def test_object_patch_mapper_flip_mirrors_image_and_masks(picture):
    mapper = ObjectPatchMapper(is_train=True, size=32, flip=True)
    samples = [mapper(picture | {"object": 1}, seed) for seed in range(8)]
    assert {sample["flipped"] for sample in samples} == {True, False}
    plain = next(sample for sample in samples if not sample["flipped"])
    mirrored = next(sample for sample in samples if sample["flipped"])
    assert torch.equal(plain["image"].flip(2), mirrored["image"])
    for field in ("gt_visible_masks", "gt_amodal_masks", "gt_occluder_masks"):
        assert torch.equal(plain["instances"].get(field).flip(2), mirrored["instances"].get(field))


def test_object_patch_mapper_draws_object_and_factor_by_the_seed(picture):
    cfg = get_cfg()
    cfg.INPUT.AMODAL.MAPPER = "ObjectPatchMapper"
    mapper = build_mapper(cfg, is_train=True)
    samples = [mapper(picture, seed) for seed in range(10)]
    assert {sample["annotation_id"] for sample in samples} == {12, 13}
    assert len({sample["crop"] for sample in samples}) > 2
    again = mapper(picture, 3)
    assert torch.equal(again["image"], samples[3]["image"])
    assert again["crop"] == samples[3]["crop"]


def test_object_patch_mapper_gives_a_disturbed_mask_in_training_only(picture):
    settings = {"size": 64, "noise": "cocoa"}
    item = split_objects([picture])[0]
    train = [ObjectPatchMapper(is_train=True, **settings)(item, seed) for seed in range(8)]
    changed = [
        not torch.equal(sample["input_mask"], sample["instances"].gt_visible_masks[0])
        for sample in train
    ]
    assert any(changed)
    found = ObjectPatchMapper(is_train=False, **settings)(item)
    assert torch.equal(found["input_mask"], found["instances"].gt_visible_masks[0])
    assert found["visible_segm"] == item["annotations"][1]["visible_segm"]


def test_object_patch_mapper_test_patches_do_not_depend_on_the_seed(picture):
    cfg = get_cfg()
    cfg.INPUT.AMODAL.MAPPER = "ObjectPatchMapper"
    mapper = build_mapper(cfg, is_train=False)
    item = split_objects([picture])[1]
    first, second = mapper(item, 1), mapper(item, 2)
    assert first["image"].shape == (3, 256, 256)
    assert first["crop"] == second["crop"]
    assert torch.equal(first["image"], second["image"])


def test_object_patch_mapper_image_without_such_objects_is_refused(picture):
    picture["annotations"] = picture["annotations"][3:]
    with pytest.raises(ValueError, match="got none in image 1; use split_objects"):
        ObjectPatchMapper(is_train=True)(picture)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"box": "x"}, r"\('visible', 'amodal'\), got 'x'"),
        ({"enlarge": (2, 1)}, r"got \(2, 1\)"),
        ({"noise": "x"}, "got 'x'"),
    ],
)
def test_object_patch_mapper_wrong_settings_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        ObjectPatchMapper(is_train=True, **settings)


def test_object_patch_mapper_works_with_stock_config(picture):
    cfg = get_stock_cfg()
    assert "AMODAL" not in cfg.INPUT
    (item, _) = split_objects([picture])
    sample = ObjectPatchMapper(cfg, is_train=False)(item)
    assert sample["image"].shape == (3, 256, 256)
    blue_bgr = torch.tensor(BLUE[::-1], dtype=torch.uint8)  # the stock format
    colours = sample["image"].permute(1, 2, 0)[sample["instances"].gt_visible_masks[0]]
    assert torch.equal(colours.median(dim=0).values, blue_bgr)


def test_object_patch_mapper_without_a_seed_draws_anew(picture):
    mapper = ObjectPatchMapper(is_train=True, size=8, enlarge=(1.0, 3.0))
    np.random.seed(5)  # noqa: NPY002, what Detectron2's workers do
    crops = [mapper(picture)["crop"] for _ in range(6)]
    assert len(set(crops)) > 2
    np.random.seed(5)  # noqa: NPY002
    assert [mapper(picture)["crop"] for _ in range(6)] == crops


def test_object_patch_mapper_in_the_loader_of_detectron2(picture):
    loader = build_detection_train_loader(
        dataset=split_objects([picture]),
        mapper=ObjectPatchMapper(get_stock_cfg()),
        total_batch_size=2,
        num_workers=0,
    )
    (first, second) = next(iter(loader))
    assert {first["annotation_id"], second["annotation_id"]} == {12, 13}
