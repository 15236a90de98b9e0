"""The tables of C2F-Seg on toy data."""

from __future__ import annotations

import json

import pytest

from amodal2.engine.dataset_completion import read_truth
from amodal2.utils.files import write_json
from tests.conftest import REPOSITORY, load_script
from tests.engine.test_dataset_completion import (
    image_predictions,
    predictions,
    write_images,
    write_videos,
)


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    return load_script("tools/c2f_seg_table.py")


@pytest.fixture
def data(tmp_path):
    for name in ("market", "aquarium"):
        (tmp_path / "data" / name).mkdir(parents=True)
    images = read_truth(write_images(tmp_path / "data" / "market"))
    write_json(tmp_path / "objects.json", image_predictions(images))
    truth = read_truth(write_videos(tmp_path / "data" / "aquarium"))
    write_json(tmp_path / "tracks.json", predictions(truth))
    return tmp_path


def run(tool, folder, *rows):
    out = folder / "out"
    options = ["--out", str(out), "--data", str(folder / "data"), "--only", *rows]
    found = ["--tracks", str(folder / "tracks.json")]
    assert tool.main([*options, *found, "--detections", str(folder / "objects.json")]) == 0
    return out


def test_rows_are_computed_once_and_shown_together(tool, data):
    out = run(tool, data, "modal")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("modal_*.json")}
    assert sorted(path.stem for path in kept) == [
        "modal_aquarium",
        "modal_aquarium_predicted",
        "modal_market",
        "modal_market_predicted",
    ]
    run(tool, data, "modal", "convex")
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    text = (out / "table.md").read_text()
    assert text.count("| convex hull |") == text.count("| visible mask |") == 14
    assert "**aquarium_predicted, tracks with the detector's scores**" in text
    table = json.loads((out / "table.json").read_text())
    occluded = {title: row["scores"]["c2f_image"]["occ"] for title, row in table["market"].items()}
    assert occluded["convex hull"] > occluded["visible mask"] == 0
    predicted = table["aquarium_predicted"]["visible mask"]["scores"]
    # The masks are the true ones, and the objects the same.
    assert predicted == table["aquarium"]["visible mask"]["matched"]
    hull = table["market_predicted"]["convex hull"]
    assert hull["scores"] == table["market"]["convex hull"]["matched"]
    assert hull["tracks"]["AP"] > table["market_predicted"]["visible mask"]["tracks"]["AP"] > 0


def test_the_detectors_own_masks_are_a_row(tool, data):
    file = data / "objects.json"
    objects = json.loads(file.read_text())
    write_json(file, [{**r, "amodal_segm": r["visible_segm"]} for r in objects])
    out = run(tool, data, "detector", "modal")
    table = json.loads((out / "table.json").read_text())["market_predicted"]
    own = table["the detector's own"]
    assert own["tracks"] == table["visible mask"]["tracks"]
    assert own["scores"] == table["visible mask"]["scores"]


def test_rows_without_weights_are_left_out(tool, data):
    out = run(tool, data, "market", "video")
    assert not list(out.glob("*_market.json"))
