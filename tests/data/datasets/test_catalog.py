from __future__ import annotations

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.data.datasets import register_amodal_coco_instances, register_video_amodal_instances
from amodal2.data.datasets.catalog import registered_by

NAME = "toy_v1_amodal_catalog"


@pytest.fixture
def taken():
    DatasetCatalog.register(NAME, list_of_theirs)
    MetadataCatalog.get(NAME).set(json_file="theirs.json")
    yield
    DatasetCatalog.pop(NAME, None)
    MetadataCatalog.pop(NAME, None)


def list_of_theirs():
    return []


@pytest.mark.parametrize(
    "register", [register_amodal_coco_instances, register_video_amodal_instances]
)
def test_register_dataset_taken_name_raises_with_its_owner_and_changes_nothing(taken, register):
    with pytest.raises(ValueError, match=rf"new dataset name, got '{NAME}', which {__name__} has"):
        register(NAME, "ours.json", "ours", categories={1: "x"})
    assert MetadataCatalog.get(NAME).json_file == "theirs.json"
    assert DatasetCatalog[NAME] is list_of_theirs


def test_registered_by_nobody_is_none():
    assert registered_by("toy_v1_amodal_unheard_of") is None
