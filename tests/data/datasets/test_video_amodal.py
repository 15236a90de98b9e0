from __future__ import annotations

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.data.datasets import video_amodal
from amodal2.data.datasets.video_amodal import (
    load_video_amodal_json,
    register_video_amodal_instances,
)
from amodal2.utils.errors import AnnotationError
from tests.structures.toy_videos import CRAB, LENGTH, SIZE, bar, content, track, tube, write

NAME = "toy_v1_amodal_val"


@pytest.fixture
def registered():
    """Remove the test's dataset from the catalogues afterwards."""
    yield NAME
    DatasetCatalog.pop(NAME, None)
    MetadataCatalog.pop(NAME, None)


def test_load_video_amodal_json_one_dict_per_video(tmp_path):
    amodal = tube(bar(0, 12))
    data = content(track(1, amodal_segmentations=amodal), track(2, category=CRAB), videos=2)
    data["videos"][0]["depth_order"] = [[1, 2]] * LENGTH
    first, second = load_video_amodal_json(write(tmp_path, data), tmp_path)
    assert (first["video_id"], first["height"], first["width"]) == (1, *SIZE)
    assert first["length"] == len(first["file_names"]) == LENGTH
    assert first["file_names"][1] == str(tmp_path / "clip1" / "1.png")
    assert first["depth_order"] == [[1, 2]] * LENGTH
    fish, crab = first["annotations"]
    assert (fish["id"], fish["category_id"], fish["iscrowd"]) == (1, 0, 0)
    assert fish["amodal_segmentations"] == amodal
    assert crab["category_id"] == 1
    assert crab["amodal_segmentations"] is None
    assert second["annotations"] == []


def test_load_video_amodal_json_video_file_gets_absolute_path(tmp_path):
    data = content(track(1))
    del data["videos"][0]["file_names"]
    data["videos"][0]["file_name"] = "a/b.mp4"
    (video,) = load_video_amodal_json(write(tmp_path, data), tmp_path)
    assert video["file_name"] == str(tmp_path / "a" / "b.mp4")
    assert "file_names" not in video


@pytest.mark.parametrize("skip_invalid", [False, True])
def test_load_video_amodal_json_skip_invalid_is_passed_on(tmp_path, skip_invalid):
    path = write(tmp_path, content(track(1), track(2, category=99)))
    if skip_invalid:
        (video,) = load_video_amodal_json(path, tmp_path, skip_invalid=True)
        assert len(video["annotations"]) == 1
    else:
        with pytest.raises(AnnotationError, match="category_id"):
            load_video_amodal_json(path, tmp_path)


def test_register_video_amodal_instances_reads_when_asked(tmp_path, registered):
    path = tmp_path / "gt.json"
    register_video_amodal_instances(registered, path, tmp_path)
    metadata = MetadataCatalog.get(registered)
    assert metadata.evaluator_type == video_amodal.EVALUATOR_TYPE
    assert metadata.json_file == str(path)
    assert not hasattr(metadata, "thing_classes")
    write(tmp_path, content(track(1)))
    assert len(DatasetCatalog.get(registered)) == 1
    assert metadata.thing_classes == ["fish", "crab"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}


def test_register_video_amodal_instances_known_categories_are_there_at_once(tmp_path, registered):
    path = write(tmp_path, content(track(1)))
    register_video_amodal_instances(registered, path, tmp_path, categories={3: "fish", 7: "crab"})
    assert MetadataCatalog.get(registered).thing_classes == ["fish", "crab"]
    assert len(DatasetCatalog.get(registered)) == 1


def test_register_video_amodal_instances_file_with_other_categories_raises(tmp_path, registered):
    path = write(tmp_path, content(track(1)))
    register_video_amodal_instances(registered, path, tmp_path, categories={3: "fish", 7: "eel"})
    with pytest.raises(AnnotationError, match=r"\['fish', 'eel'\].*got \['fish', 'crab'\]"):
        DatasetCatalog.get(registered)
