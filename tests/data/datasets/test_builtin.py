from __future__ import annotations

import re

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.data.datasets import builtin


@pytest.mark.parametrize("name", builtin.VIDEO_DATASETS)
def test_video_datasets_are_registered_under_the_naming_rule(name):
    assert name in DatasetCatalog.list()
    assert re.fullmatch(r"[a-z0-9]+_[a-z0-9]+_amodal_[a-z]+", name)
    json_file, frames, categories = builtin.VIDEO_DATASETS[name]
    assert MetadataCatalog.get(name).json_file.endswith(json_file)
    assert MetadataCatalog.get(name).root.endswith(frames)
    assert MetadataCatalog.get(name).thing_classes == list(categories.values())


def test_datasets_root_follows_the_environment(monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "/some/place")
    assert builtin.datasets_root() == "/some/place"
    monkeypatch.setenv("DETECTRON2_DATASETS", "")
    assert builtin.datasets_root() == "datasets"


def test_register_builtin_datasets_places_every_row_below_the_root(monkeypatch, tmp_path):
    monkeypatch.setattr(
        builtin, "VIDEO_DATASETS", {"toy_v1_amodal_row": ("toy/a.json", "toy/b", {1: "x"})}
    )
    builtin.register_builtin_datasets(str(tmp_path))
    try:
        metadata = MetadataCatalog.get("toy_v1_amodal_row")
        assert metadata.json_file == str(tmp_path / "toy" / "a.json")
        assert metadata.root == str(tmp_path / "toy" / "b")
    finally:
        DatasetCatalog.pop("toy_v1_amodal_row")
        MetadataCatalog.pop("toy_v1_amodal_row")
