import importlib.util
import json
import logging
import sys

import pytest

from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.video_json import read_video_json
from tests.conftest import REPOSITORY
from tests.data.importers import toy_annotations as toy


@pytest.fixture(scope="module")
def script():
    path = REPOSITORY / "datasets" / "prepare_custom.py"
    spec = importlib.util.spec_from_file_location("prepare_custom", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_main_truth_fed_back_scores_hundred(script, tmp_path):
    toy.write_labelme(tmp_path / "drive")
    out = tmp_path / "train.json"
    arguments = [
        "labelme",
        str(tmp_path / "drive"),
        "--out",
        str(out),
        "--categories",
        "car",
        "bus",
    ]
    assert script.main(arguments) == 0
    dataset = read_video_json(out)
    records = [{**record, "score": 0.9} for record in dataset.annotations]
    report = str(evaluate_video_tracks(dataset, records))
    assert report.count("100.00") >= 6


def test_main_missing_frames_are_said(script, tmp_path, caplog):
    toy.write_cvat(tmp_path / "a.xml")
    with caplog.at_level(logging.WARNING):
        assert (
            script.main(["cvat", str(tmp_path / "a.xml"), "--out", str(tmp_path / "o.json")]) == 0
        )
    assert "3 of 3 frames named in the file do not exist" in caplog.text


def test_main_bad_input_ends_with_status_two_and_writes_nothing(script, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"images": []}))
    out = tmp_path / "o.json"
    assert script.main(["coco", str(tmp_path / "a.json"), "--out", str(out)]) == 2
    assert not out.exists()


def test_main_splits_at_cuts_when_asked(script, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    asked = []

    def find_cuts(frames, threshold):
        asked.append((len(list(frames)), threshold))
        return [2]

    monkeypatch.setattr("amodal2.data.importers.shot_cuts.find_cuts", find_cuts)
    toy.write_labelme(tmp_path / "drive")
    out = tmp_path / "train.json"
    arguments = ["labelme", str(tmp_path / "drive"), "--out", str(out), "--split-cuts", "30"]
    assert script.main(arguments) == 0
    assert asked == [(toy.FRAMES, 30.0)]
    dataset = read_video_json(out)
    assert [video["length"] for video in dataset.videos] == [2, 1]
    assert "1 camera cuts at which videos were split" in caplog.text


def test_main_cuts_without_the_library_end_with_status_two(script, tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    toy.write_labelme(tmp_path / "drive")
    out = tmp_path / "train.json"
    assert script.main(["labelme", str(tmp_path / "drive"), "--out", str(out), "--split-cuts"]) == 2
    assert "pip install 'amodal2[datasets]'" in caplog.text
    assert not out.exists()


def test_main_cuts_need_the_frames(script, tmp_path, caplog):
    pytest.importorskip("scenedetect")
    toy.write_cvat(tmp_path / "a.xml")
    out = str(tmp_path / "o.json")
    assert script.main(["cvat", str(tmp_path / "a.xml"), "--out", out, "--split-cuts"]) == 2
    assert "expected an image file" in caplog.text
