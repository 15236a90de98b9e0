from __future__ import annotations

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.data.datasets.categories import (
    AQUARIUM_CATEGORIES,
    PLAYROOM_CATEGORIES,
    dataset_categories,
)
from amodal2.data.datasets.video_amodal import register_video_amodal_instances
from amodal2.data.synthetic import toys
from amodal2.data.synthetic.aquarium import CATEGORIES
from tests.structures.toy_videos import content, write

NAME = "toy_v1_amodal_categories"


@pytest.fixture
def registered(tmp_path):
    """Register a dataset whose file a test may write."""
    register_video_amodal_instances(NAME, tmp_path / "gt.json", tmp_path)
    yield NAME
    DatasetCatalog.pop(NAME)
    MetadataCatalog.pop(NAME)


def test_categories_of_rendered_videos_are_those_of_the_renderers():
    assert AQUARIUM_CATEGORIES == CATEGORIES
    assert PLAYROOM_CATEGORIES == toys.CATEGORIES


def test_dataset_categories_builtin_dataset_needs_no_file():
    assert dataset_categories("aquarium_v1_amodal_val", 6) == AQUARIUM_CATEGORIES


def test_dataset_categories_reads_the_file_of_other_datasets(registered, tmp_path):
    write(tmp_path, content())
    assert dataset_categories(registered, 2) == {3: "fish", 7: "crab"}


@pytest.mark.parametrize("name", ["", NAME])
def test_dataset_categories_without_file_are_numbered(registered, name):
    assert dataset_categories(name, 2) == {1: "class 1", 2: "class 2"}


def test_dataset_categories_other_number_of_classes_raises():
    with pytest.raises(
        ValueError, match=r"expected 5 categories .*got 6; name the model's dataset"
    ):
        dataset_categories("aquarium_v1_amodal_val", 5)
