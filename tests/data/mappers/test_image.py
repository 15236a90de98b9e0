"""Training samples and test images of the image mapper."""

from __future__ import annotations

import copy
import pickle

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg as get_stock_cfg
from detectron2.data import build_detection_train_loader
from detectron2.structures import BitMasks

from amodal2.config import get_cfg
from amodal2.data.datasets import load_amodal_coco_json
from amodal2.data.mappers import ImageMapper, build_mapper
from amodal2.data.transforms import ClipGeometry
from amodal2.structures import encode_mask, fields
from amodal2.utils.errors import AnnotationError
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import CRAB, write

SIZE = (40, 60)
MASKS = (fields.GT_VISIBLE_MASKS, fields.GT_AMODAL_MASKS, fields.GT_OCCLUDER_MASKS)
COLORS = (200, 120, 40)


def block(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


NEAR, FAR, LOST = block(10, 20, 30, 40), block(5, 5, 25, 30), block(12, 22, 20, 30)
"""A front object, one partly behind it, and one wholly behind it."""


def record(number: int, amodal: np.ndarray, visible: np.ndarray, **keys: object) -> dict:
    masks = {"amodal_segm": encode_mask(amodal), "visible_segm": encode_mask(visible)}
    return thing(number, category=CRAB, **masks, **keys)


@pytest.fixture
def picture(tmp_path):
    """Return the dataset dict of an image with three objects and a crowd."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[FAR], image[NEAR] = COLORS, COLORS[::-1]
    cv2.imwrite(str(tmp_path / "1.png"), image[..., ::-1])
    data = image_content(
        record(1, NEAR, NEAR),
        record(2, FAR, FAR & ~NEAR),
        record(3, LOST, np.zeros(SIZE, dtype=bool)),
        record(4, FAR, FAR, iscrowd=1),
    )
    data["images"][0].update(height=SIZE[0], width=SIZE[1])
    (found,) = load_amodal_coco_json(write(tmp_path, data), tmp_path)
    return found


def make_mapper(geometry: ClipGeometry | None = None, **changes) -> ImageMapper:
    sampler = None if geometry is None else lambda rng, height, width: geometry
    return ImageMapper(**{"is_train": True, "geometry": sampler, **changes})


def masks_of(sample: dict, field: str) -> np.ndarray:
    return sample["instances"].get(field).numpy()


def test_image_mapper_without_transforms_gives_image_and_masks_of_the_file(picture):
    sample = make_mapper(image_format="RGB")(picture, 5)
    assert (sample["image"].shape, sample["image"].dtype) == ((3, *SIZE), torch.uint8)
    assert (sample["image_id"], sample["height"], sample["width"]) == (1, *SIZE)
    assert "annotations" not in sample
    instances = sample["instances"]
    assert instances.gt_classes.tolist() == [1, 1, 1]
    assert np.array_equal(masks_of(sample, fields.GT_AMODAL_MASKS), [NEAR, FAR, LOST])
    hidden = np.zeros(SIZE, dtype=bool)
    assert np.array_equal(masks_of(sample, fields.GT_VISIBLE_MASKS), [NEAR, FAR & ~NEAR, hidden])
    seen = sample["image"].permute(1, 2, 0)[instances.gt_visible_masks[1]]
    assert (seen == torch.tensor(COLORS, dtype=torch.uint8)).all()


def test_image_mapper_boxes_are_those_of_the_masks(picture):
    instances = make_mapper()(picture, 0)["instances"]
    assert instances.gt_amodal_boxes.tensor.tolist() == [
        [20, 10, 40, 30],
        [5, 5, 30, 25],
        [22, 12, 30, 20],
    ]
    assert instances.gt_visible_boxes.tensor.tolist() == [
        [20, 10, 40, 30],
        [5, 5, 30, 25],
        [0, 0, 0, 0],
    ]


def test_image_mapper_detectron2_fields_are_the_amodal_ones(picture):
    instances = make_mapper()(picture, 0)["instances"]
    assert isinstance(instances.gt_masks, BitMasks)
    assert torch.equal(instances.gt_masks.tensor, instances.gt_amodal_masks)
    assert torch.equal(instances.gt_boxes.tensor, instances.gt_amodal_boxes.tensor)


def test_image_mapper_channels_follow_the_format(picture):
    rgb, bgr = (make_mapper(image_format=name)(picture, 0)["image"] for name in ("RGB", "BGR"))
    assert torch.equal(rgb, bgr.flip(0))
    assert not torch.equal(rgb, bgr)


GEOMETRIES = {
    "flip": ClipGeometry((0, 0, *SIZE), SIZE, flip_x=True),
    "upside-down": ClipGeometry((0, 0, *SIZE), SIZE, flip_y=True),
    "crop": ClipGeometry((8, 12, 20, 30), (20, 30)),
    "resize": ClipGeometry((0, 0, *SIZE), (80, 120)),
    "all": ClipGeometry((8, 12, 20, 30), (50, 75), flip_x=True),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_image_mapper_moves_everything_together(picture, name):
    geometry = GEOMETRIES[name]
    sample, plain = make_mapper(geometry)(picture, 0), make_mapper()(picture, 0)
    assert sample["image"].shape[1:] == geometry.size
    for field in MASKS:
        expected = geometry.apply_masks(masks_of(plain, field))
        assert np.array_equal(masks_of(sample, field), expected), field
    for masks, boxes in (("gt_visible_masks", "gt_visible_boxes"), ("gt_masks", "gt_boxes")):
        instances = sample["instances"]
        values = instances.get(masks)
        tensor = values if masks != "gt_masks" else values.tensor
        tight = BitMasks(tensor).get_bounding_boxes().tensor
        assert torch.equal(instances.get(boxes).tensor, tight), boxes


def test_image_mapper_objects_outside_the_crop_are_dropped(picture):
    sample = make_mapper(ClipGeometry((26, 0, 14, 60), (14, 60)))(picture, 0)
    assert np.array_equal(masks_of(sample, fields.GT_AMODAL_MASKS), [NEAR[26:]])
    assert sample["instances"].gt_boxes.tensor.tolist() == [[20, 0, 40, 4]]


@pytest.mark.parametrize(("least", "left"), [(0, 3), (1, 2), (401, 0)])
def test_image_mapper_objects_with_few_visible_pixels_can_be_dropped(picture, least, left):
    assert len(make_mapper(min_visible_area=least)(picture, 0)["instances"]) == left


def test_image_mapper_visible_only_annotations_have_no_amodal_fields(picture):
    for one in picture["annotations"]:
        del one["amodal_segm"]
    instances = make_mapper()(picture, 0)["instances"]
    visible = {"gt_visible_masks", "gt_visible_boxes"}
    assert set(instances.get_fields()) == {"gt_classes", "gt_boxes"} | visible
    assert torch.equal(instances.gt_boxes.tensor, instances.gt_visible_boxes.tensor)
    assert len(instances) == 2  # the hidden object has no box


def test_image_mapper_image_without_objects_has_empty_fields(picture):
    instances = make_mapper()(picture | {"annotations": []}, 0)["instances"]
    assert len(instances) == 0
    assert instances.gt_occluder_masks.shape == (0, *SIZE)
    assert instances.gt_masks.tensor.shape == (0, *SIZE)


def test_image_mapper_same_seed_same_sample_and_dict_unchanged(picture):
    cfg = get_cfg()
    cfg.INPUT.AMODAL.MAPPER = "ImageMapper"
    cfg.INPUT.AMODAL.COLOR_JITTER = 0.3
    mapper = build_mapper(cfg, is_train=True)
    before = copy.deepcopy(picture)
    first, second = mapper(picture, 7), pickle.loads(pickle.dumps(mapper))(picture, 7)
    assert torch.equal(first["image"], second["image"])
    assert picture == before
    images = [mapper(picture, seed)["image"] for seed in range(8)]
    assert len({(image.shape, image.float().mean().item()) for image in images}) > 1


def test_image_mapper_without_a_seed_follows_numpy(picture):
    mapper = ImageMapper(get_stock_cfg(), is_train=True)
    drawn = []
    for seed in (0, 0, 1, 2, 3, 4):
        np.random.seed(seed)  # noqa: NPY002, as Detectron2 seeds its workers
        drawn.append(mapper(picture)["image"])
    assert torch.equal(drawn[0], drawn[1])
    assert any(drawn[0].shape != k.shape or not torch.equal(drawn[0], k) for k in drawn[2:])


def test_image_mapper_feeds_the_stock_loader(picture):
    cfg = get_stock_cfg()
    cfg.SOLVER.IMS_PER_BATCH = 2
    loader = build_detection_train_loader(
        [picture], mapper=ImageMapper(cfg, is_train=True), total_batch_size=2, num_workers=0
    )
    batch = next(iter(loader))
    assert [len(sample["instances"]) for sample in batch] == [3, 3]
    assert batch[0]["instances"].gt_masks.tensor.any()


def test_image_mapper_test_mode_resizes_only(picture):
    sample = ImageMapper(is_train=False, geometry=None, test_size=(20, 25))(picture)
    assert sample["image"].shape == (3, 17, 25)
    assert (sample["height"], sample["width"]) == SIZE
    assert not {"instances", "annotations"} & set(sample)


def test_image_mapper_image_of_another_size_is_named(picture):
    with pytest.raises(AnnotationError, match=r"50 x 60 pixels.*got 40 x 60 \[file .*image 1\]"):
        make_mapper()(picture | {"height": 50}, 0)


def test_image_mapper_unknown_format_is_refused():
    with pytest.raises(ValueError, match=r"'BGR', 'RGB'.*got 'YUV'"):
        make_mapper(image_format="YUV")


def test_image_mapper_gives_true_boxes_to_tests_that_ask_for_them(picture):
    cfg = get_cfg()
    cfg.INPUT.AMODAL.MAPPER = "ImageMapper"
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 80, 0
    assert "instances" not in build_mapper(cfg, is_train=False)(picture)
    cfg.MODEL.AMODAL_RCNN.INFERENCE_WITH_GT_BOXES = True
    sample = build_mapper(cfg, is_train=False)(picture)
    assert sample["image"].shape[1:] == (80, 120)
    assert sample["instances"].gt_boxes.tensor[0].tolist() == [40.0, 20.0, 80.0, 60.0]
    assert (sample["height"], sample["width"]) == SIZE


def test_image_mapper_takes_the_boxes_that_the_config_names(picture):
    cfg = get_cfg()
    cfg.INPUT.AMODAL.MAPPER, cfg.INPUT.AMODAL.BOX = "ImageMapper", "visible"
    instances = build_mapper(cfg, is_train=True)(picture, 0)["instances"]
    assert len(instances) == 2  # the hidden object has no such box
    assert torch.equal(instances.gt_boxes.tensor, instances.gt_visible_boxes.tensor)
    assert instances.has("gt_masks")
    with pytest.raises(ValueError, match=r"expected a box of .*, got 'both'"):
        ImageMapper(is_train=True, geometry=None, box="both")
