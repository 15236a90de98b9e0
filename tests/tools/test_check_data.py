import importlib.util
import json

import cv2
import numpy as np
import pytest

from amodal2.data.importers import read_mask_folders
from amodal2.data.importers.image_import import ImageImport, SourceImage, SourceObject
from amodal2.data.importers.video_import import VideoImport
from amodal2.structures.rle import encode_mask
from tests.conftest import REPOSITORY
from tests.data.importers import toy_annotations as toy


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "check_data", REPOSITORY / "tools" / "check_data.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def video_file(tmp_path):
    toy.write_mask_folders(tmp_path)
    collected = VideoImport()
    for video in read_mask_folders(tmp_path, tmp_path):
        collected.add(video)
    collected.write(tmp_path / "v.json")
    return tmp_path / "v.json"


def test_main_video_file_reports_per_key_and_draws(script, video_file, capsys):
    sheet = video_file.parent / "sheet.png"
    assert script.main([str(video_file), "--sheet", str(sheet), "--samples", "2"]) == 0
    text = capsys.readouterr().out
    assert "videos: 1, frames per video 3 to 3" in text
    assert "category    2 car" in text
    assert "hidden in full in 1 frames of tracks" in text
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert picture.shape[1] >= 3 * 320
    assert picture.std() > 0


def test_main_broken_file_names_the_place_and_ends_with_status_one(script, video_file, capsys):
    data = json.loads(video_file.read_text())
    data["annotations"][0]["segmentations"][1] = {"size": [8, 12], "counts": "1"}
    video_file.write_text(json.dumps(data))
    assert script.main([str(video_file)]) == 1
    assert "segmentations[1]" in capsys.readouterr().err


def test_main_strict_doubtful_content_ends_with_status_one(script, video_file):
    data = json.loads(video_file.read_text())
    data["annotations"][0]["occlusion_rates"][0] = 1.5
    video_file.write_text(json.dumps(data))
    assert script.main([str(video_file)]) == 0
    assert script.main([str(video_file), "--strict"]) == 1


def test_main_image_file_says_what_is_null(script, tmp_path, capsys):
    mask = encode_mask(np.eye(6, 8, dtype=bool))
    importer = ImageImport({1: "cup"})
    found = [SourceObject(1, mask, mask, {}), SourceObject(1, mask, None, {})]
    importer.add(SourceImage(1, "a.png", 6, 8, found))
    importer.write(tmp_path / "i.json")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((6, 8, 3), np.uint8))
    assert script.main([str(tmp_path / "i.json"), "--sheet", str(tmp_path / "s.png")]) == 0
    text = capsys.readouterr().out
    assert "images: 1, objects per image 2 to 2" in text
    line = next(line for line in text.splitlines() if line.strip().startswith("visible_bbox"))
    assert line.endswith("null in 1")
    assert (tmp_path / "s.png").is_file()


def test_main_missing_frames_are_an_error_without_a_traceback(script, video_file, capsys):
    arguments = [str(video_file), "--root", str(video_file.parent / "none"), "--sheet", "s.png"]
    assert script.main(arguments) == 1
    assert "none" in capsys.readouterr().err


def test_main_deeply_nested_file_is_an_error_without_a_traceback(script, tmp_path, capsys):
    file = tmp_path / "deep.json"
    file.write_text("[" * 100_000)
    assert script.main([str(file)]) == 1
    assert "expected JSON, got maximum recursion depth" in capsys.readouterr().err


def test_main_endless_video_without_tracks_is_no_endless_search(script, tmp_path, capsys):
    video = {"id": 1, "height": 4, "width": 4, "length": 10**12, "file_name": "missing.mp4"}
    file = tmp_path / "long.json"
    file.write_text(json.dumps({"videos": [video], "categories": [], "annotations": []}))
    assert script.main([str(file), "--sheet", str(tmp_path / "sheet.png")]) == 1
    assert "missing.mp4" in capsys.readouterr().err
