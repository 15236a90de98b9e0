from __future__ import annotations

import builtins
import json
import logging
import os
import re
import runpy

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.data.datasets import builtin
from amodal2.structures import encode_mask
from tests.conftest import REPOSITORY


@pytest.mark.parametrize("name", builtin.VIDEO_DATASETS)
def test_video_datasets_are_registered_under_the_naming_rule(name):
    assert name in DatasetCatalog.list()
    assert re.fullmatch(r"[a-z0-9]+_[a-z0-9]+_(amodal|visible)_[a-z]+", name)
    json_file, frames, categories = builtin.VIDEO_DATASETS[name]
    assert MetadataCatalog.get(name).json_file.endswith(json_file)
    assert MetadataCatalog.get(name).root.endswith(frames)
    known = MetadataCatalog.get(name).get("thing_classes")
    assert known == (None if categories is None else list(categories.values()))


def test_datasets_without_public_amodal_masks_are_named_visible():
    names = {name for name in builtin.VIDEO_DATASETS if "_visible_" in name}
    assert {name.split("_")[0] for name in names} == {"coco", "kins", "ovis", "ytvis"}


@pytest.mark.parametrize("name", ["ytvis_2019_train", "ytvis_2021_train", "ovis_train"])
def test_builtin_names_leave_those_of_mask2former_and_vita_free(name):
    DatasetCatalog.register(name, list)
    DatasetCatalog.remove(name)


def test_register_builtin_datasets_leaves_a_taken_name_to_its_owner(monkeypatch, tmp_path, caplog):
    rows = {f"toy_v1_amodal_{name}": (f"{name}.json", name, {1: "x"}) for name in ("taken", "free")}
    monkeypatch.setattr(builtin, "VIDEO_DATASETS", rows)
    monkeypatch.setattr(builtin, "IMAGE_DATASETS", {})

    def of_somebody_else():
        return ["theirs"]

    DatasetCatalog.register("toy_v1_amodal_taken", of_somebody_else)
    try:
        with caplog.at_level(logging.WARNING, logger="amodal2"):
            builtin.register_builtin_datasets(str(tmp_path))
        assert DatasetCatalog.get("toy_v1_amodal_taken") == ["theirs"]
        assert MetadataCatalog.get("toy_v1_amodal_taken").get("json_file") is None
        assert MetadataCatalog.get("toy_v1_amodal_free").json_file == str(tmp_path / "free.json")
        (record,) = caplog.records
        assert record.getMessage() == (
            f"dataset toy_v1_amodal_taken stays as {__name__} has registered it"
        )
    finally:
        for name in rows:
            DatasetCatalog.pop(name, None)
            MetadataCatalog.pop(name, None)


@pytest.fixture
def all_rows(tmp_path):
    """Yield a root and all rows under other names, so that they can be registered."""
    rows = {f"toy_{name}": row for name, row in builtin.VIDEO_DATASETS.items()}
    yield tmp_path, rows
    for name in rows:
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


def test_register_builtin_datasets_reads_no_file(monkeypatch, all_rows):
    root, rows = all_rows
    opened = []
    for row in rows.values():  # what is no JSON would be an error if it were read
        (root / row[0]).parent.mkdir(exist_ok=True)
        (root / row[0]).write_text("{")
    monkeypatch.setattr(builtin, "VIDEO_DATASETS", rows)
    monkeypatch.setattr(builtin, "IMAGE_DATASETS", {})
    monkeypatch.setattr(builtins, "open", lambda *args, **kwargs: opened.append(args))
    monkeypatch.setattr("pathlib.Path.read_bytes", opened.append)
    builtin.register_builtin_datasets(str(root))
    monkeypatch.undo()
    assert opened == []
    with pytest.raises(ValueError, match="expected JSON"):
        DatasetCatalog.get("toy_fishbowl_v1_amodal_test")


def test_row_without_categories_takes_them_from_the_file(monkeypatch, all_rows):
    root, rows = all_rows
    monkeypatch.setattr(builtin, "VIDEO_DATASETS", rows)
    monkeypatch.setattr(builtin, "IMAGE_DATASETS", {})
    builtin.register_builtin_datasets(str(root))
    mask = {"size": [2, 3], "counts": [1, 2, 3]}
    video = {"id": 1, "width": 3, "height": 2, "length": 1, "file_names": ["v/0.png"]}
    track = {"id": 1, "video_id": 1, "category_id": 7, "segmentations": [mask]}
    data = {"videos": [video], "annotations": [track], "categories": [{"id": 7, "name": "eel"}]}
    (root / "fishbowl").mkdir()
    (root / "fishbowl" / "val.json").write_text(json.dumps(data))
    (entry,) = DatasetCatalog.get("toy_fishbowl_v1_amodal_val")
    assert entry["file_names"] == [str(root / "fishbowl" / "v" / "0.png")]
    assert MetadataCatalog.get("toy_fishbowl_v1_amodal_val").thing_classes == ["eel"]


def test_datasets_root_follows_the_environment(monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "/some/place")
    assert builtin.datasets_root() == "/some/place"
    monkeypatch.setenv("DETECTRON2_DATASETS", "")
    assert builtin.datasets_root() == "datasets"


def test_register_builtin_datasets_places_every_row_below_the_root(monkeypatch, tmp_path):
    monkeypatch.setattr(
        builtin, "VIDEO_DATASETS", {"toy_v1_amodal_row": ("toy/a.json", "toy/b", {1: "x"})}
    )
    monkeypatch.setattr(builtin, "IMAGE_DATASETS", {})
    builtin.register_builtin_datasets(str(tmp_path))
    try:
        metadata = MetadataCatalog.get("toy_v1_amodal_row")
        assert metadata.json_file == str(tmp_path / "toy" / "a.json")
        assert metadata.root == str(tmp_path / "toy" / "b")
    finally:
        DatasetCatalog.pop("toy_v1_amodal_row")
        MetadataCatalog.pop("toy_v1_amodal_row")


@pytest.mark.parametrize("name", builtin.IMAGE_DATASETS)
def test_image_datasets_are_registered_under_the_naming_rule(name):
    assert name in DatasetCatalog.list()
    assert re.fullmatch(r"[a-z0-9]+_[a-z0-9]+_amodal_[a-z]+", name)
    json_file, folder, categories = builtin.IMAGE_DATASETS[name]
    metadata = MetadataCatalog.get(name)
    assert metadata.evaluator_type == "coco_amodal"
    assert metadata.json_file == os.path.join(builtin.datasets_root(), json_file)
    assert metadata.image_root == os.path.join(builtin.datasets_root(), folder)
    known = metadata.get("thing_classes")
    assert known == (None if categories is None else list(categories.values()))


@pytest.mark.parametrize("table", ["VIDEO_DATASETS", "IMAGE_DATASETS"])
def test_datasets_have_their_names_in_the_document(table):
    text = (REPOSITORY / "datasets" / "README.md").read_text(encoding="utf-8")
    quoted = re.findall(r"`([a-z0-9_]+(?:\{[a-z,]+\})?)`", text)
    named = {
        name.partition("{")[0] + split
        for name in quoted
        for split in re.findall(r"[a-z]+", name.partition("{")[2]) or [""]
    }
    assert set(getattr(builtin, table)) <= named


def test_prepared_kins_is_read_under_its_name(monkeypatch, tmp_path):
    """The script's output, at the place that datasets/README.md says, is the dataset's file."""
    row = builtin.IMAGE_DATASETS["kins_2019_amodal_test"]
    monkeypatch.setattr(builtin, "VIDEO_DATASETS", {})
    monkeypatch.setattr(builtin, "IMAGE_DATASETS", {"toy_2019_amodal_test": row})
    outline = [[0, 0, 4, 0, 4, 4, 0, 4]]
    seen = encode_mask(np.eye(6, dtype=bool))
    source = {
        "images": [{"id": 3, "file_name": "000003.png", "height": 6, "width": 6}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 4, "segmentation": outline, "inmodal_seg": seen}
        ],
    }
    (tmp_path / "kins").mkdir()
    (tmp_path / "instances_val.json").write_text(json.dumps(source))
    script = runpy.run_path(str(REPOSITORY / "datasets" / "prepare_kins.py"))
    out = tmp_path / "kins" / "test.json"
    assert script["main"]([str(tmp_path / "instances_val.json"), "--out", str(out)]) == 0
    builtin.register_builtin_datasets(str(tmp_path))
    try:
        (entry,) = DatasetCatalog.get("toy_2019_amodal_test")
        image = tmp_path / "kins" / "testing" / "image_2" / "000003.png"
        assert entry["file_name"] == str(image)
        names = MetadataCatalog.get("toy_2019_amodal_test").thing_classes
        assert [names[record["category_id"]] for record in entry["annotations"]] == ["car"]
    finally:
        DatasetCatalog.pop("toy_2019_amodal_test")
        MetadataCatalog.pop("toy_2019_amodal_test")
