"""The tables of C2F-Seg on toy data."""

from __future__ import annotations

import json

import pytest

from amodal2.engine.dataset_completion import read_truth
from amodal2.utils.files import write_json
from tests.conftest import REPOSITORY, load_script
from tests.engine.test_dataset_completion import predictions, write_images, write_videos


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    return load_script("tools/c2f_seg_table.py")


@pytest.fixture
def data(tmp_path):
    for name in ("market", "aquarium"):
        (tmp_path / "data" / name).mkdir(parents=True)
    write_images(tmp_path / "data" / "market")
    truth = read_truth(write_videos(tmp_path / "data" / "aquarium"))
    write_json(tmp_path / "tracks.json", predictions(truth))
    return tmp_path


def run(tool, folder, *rows):
    out = folder / "out"
    options = ["--out", str(out), "--data", str(folder / "data"), "--only", *rows]
    assert tool.main([*options, "--tracks", str(folder / "tracks.json")]) == 0
    return out


def test_rows_are_computed_once_and_shown_together(tool, data):
    out = run(tool, data, "modal")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("modal_*.json")}
    assert sorted(path.stem for path in kept) == [
        "modal_aquarium",
        "modal_aquarium_predicted",
        "modal_market",
    ]
    run(tool, data, "modal", "convex")
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    text = (out / "table.md").read_text()
    assert text.count("| convex hull |") == text.count("| visible mask |") == 9
    assert "**aquarium_predicted, tracks with the detector's scores**" in text
    table = json.loads((out / "table.json").read_text())
    occluded = {title: row["scores"]["c2f_image"]["occ"] for title, row in table["market"].items()}
    assert occluded["convex hull"] > occluded["visible mask"] == 0
    predicted = table["aquarium_predicted"]["visible mask"]["scores"]
    # The masks are the true ones, and the objects the same.
    assert predicted == table["aquarium"]["visible mask"]["matched"]


def test_rows_without_weights_are_left_out(tool, data):
    out = run(tool, data, "market", "video")
    assert not list(out.glob("*_market.json"))
