import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.config import get_cfg
from amodal2.data.copy_paste import Layer
from amodal2.data.datasets import register_amodal_coco_instances
from amodal2.data.mappers import ImageMapper, build_mapper
from amodal2.data.mappers.copy_paste import records_of_layers
from amodal2.data.synthetic.image_writer import ImageSpec, write_image_split

NAME = "market_of_the_copy_paste_test"


@pytest.fixture
def cfg(tmp_path):
    file = write_image_split(ImageSpec(seed=2, width=128, height=96), tmp_path, "train", 2)
    register_amodal_coco_instances(NAME, file, tmp_path)
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (NAME,)
    cfg.INPUT.AMODAL.MAPPER = "CopyPasteMapper"
    cfg.INPUT.AMODAL.PASTE_MIN_SIDE = 10
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (0,), "none"
    yield cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_mapper_adds_objects_that_hide_others(cfg):
    item = DatasetCatalog.get(NAME)[0]
    plain = ImageMapper(cfg, is_train=True)(item, 1)
    one, again, other = (build_mapper(cfg, is_train=True)(item, seed) for seed in (1, 1, 2))
    assert len(one["instances"]) > len(plain["instances"])
    assert one["image"].shape == plain["image"].shape
    assert not one["image"].equal(plain["image"])
    assert one["image"].equal(again["image"])
    assert not one["image"].equal(other["image"])
    masks = one["instances"]
    assert not (masks.gt_visible_masks & ~masks.gt_amodal_masks).any()
    count = len(plain["instances"])
    seen, before = masks.gt_visible_masks[:count].sum(), plain["instances"].gt_visible_masks.sum()
    assert seen < before
    torch.testing.assert_close(masks.gt_amodal_masks[:count], plain["instances"].gt_amodal_masks)


def test_mapper_leaves_test_images_alone(cfg):
    item = DatasetCatalog.get(NAME)[0]
    plain = ImageMapper(cfg, is_train=False)(item)
    assert build_mapper(cfg, is_train=False)(item)["image"].equal(plain["image"])


def test_mapper_without_complete_objects_is_refused(cfg):
    cfg.INPUT.AMODAL.PASTE_MIN_SIDE = 500
    with pytest.raises(ValueError, match="expected complete objects to paste, got none"):
        build_mapper(cfg, is_train=True)


def test_records_have_an_order_only_where_it_is_known():
    mask, part = np.ones((4, 6), bool), np.zeros((4, 6), bool)
    part[:, :2] = True
    layers = [Layer(mask, part, 1, "a"), Layer(mask, mask, 2, "b", exact=False, crowd=True)]
    first, second = records_of_layers(layers)
    assert (first["order"]["rank"], second["order"]["rank"]) == (1, 0)
    assert (first["occlusion_rate"], first["visible_bbox"]) == (1 - 8 / 24, [0, 0, 2, 4])
    assert (first["iscrowd"], second["iscrowd"]) == (0, 1)
    unknown = records_of_layers([Layer(mask, part, 1, "a", exact=False)])
    assert "order" not in unknown[0]
    assert records_of_layers([]) == []
