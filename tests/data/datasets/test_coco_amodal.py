from __future__ import annotations

import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.config import get_cfg
from amodal2.data.datasets import register_amodal_coco_instances
from amodal2.evaluation.build import build_evaluator
from amodal2.evaluation.image_amodal import ImageAmodalEvaluator
from amodal2.utils.errors import AnnotationError
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import CRAB, bar, write

NAME = "toy_v1_amodal_images"


@pytest.fixture
def register(tmp_path):
    """Return a function that registers a dataset with one object per image."""

    def function(**options) -> None:
        path = write(tmp_path, image_content(thing(1), thing(2, 2, CRAB), images=2))
        register_amodal_coco_instances(NAME, path, tmp_path / "pictures", **options)

    yield function
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_register_amodal_coco_instances_gives_detectron2_dicts(register, tmp_path):
    register()
    first, second = DatasetCatalog.get(NAME)
    assert first["file_name"] == os.path.abspath(tmp_path / "pictures" / "1.png")
    assert (first["image_id"], first["height"], first["width"]) == (1, 4, 20)
    (record,) = second["annotations"]
    assert record["category_id"] == 1
    assert record["segmentation"] == record["amodal_segm"] == bar(0, 10)
    assert record["visible_segm"] == bar(0, 5)
    assert record["bbox"] == [0, 0, 10, 4]
    assert MetadataCatalog.get(NAME).thing_classes == ["fish", "crab"]


def test_register_amodal_coco_instances_names_its_evaluator(register):
    register()
    assert isinstance(build_evaluator(get_cfg(), NAME), ImageAmodalEvaluator)


def test_register_amodal_coco_instances_other_categories_are_refused(register):
    register(categories={1: "dog"})
    with pytest.raises(AnnotationError, match=r"\['dog'\] as registered .*got \['fish', 'crab'\]"):
        DatasetCatalog.get(NAME)
