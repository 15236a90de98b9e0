"""The benchmark of the evaluation: its workloads and its peers give the published numbers."""

from __future__ import annotations

import json

import pytest

from tests.conftest import golden_files, load_script
from tools.benchmarks import evaluation, ytvos_peer
from tools.benchmarks.evaluation_workloads import WORKLOADS, Workload, make_videos

SMALL = {"videos": 3, "classes": 2, "truth": 3, "predicted": 6, "perturbed": 4}
SMALL_WORKLOADS = {
    name: Workload(**SMALL, length=length, height=80, width=120)
    for name, length in (("W1", 0), ("W2", 4), ("W3", 3), ("W4", 0))
}


@pytest.fixture
def small_workloads(monkeypatch):
    monkeypatch.setattr(evaluation, "WORKLOADS", SMALL_WORKLOADS)
    evaluation.load.cache_clear()
    yield
    evaluation.load.cache_clear()


def golden(folder, name: str):
    return json.loads((folder / name).read_text())


@pytest.mark.parametrize("name", ["W1", "W2"])
def test_workload_gives_the_published_ap(name):
    score = evaluation.our_video_ap if WORKLOADS[name].length else evaluation.our_image_ap
    found = float(score(evaluation.load(name))[0])
    assert found == pytest.approx(WORKLOADS[name].expected_ap, abs=5e-9)


def test_make_videos_is_the_same_every_time():
    drawn = make_videos(SMALL_WORKLOADS["W2"])
    assert drawn == make_videos(SMALL_WORKLOADS["W2"])
    assert drawn[0] != make_videos(SMALL_WORKLOADS["W2"], seed=2)[0]


@pytest.mark.parametrize("variant", ["visible", "amodal", "amodal_class_agnostic", "crowd"])
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_ytvos_peer_gives_the_golden_values(folder, variant):
    truth = golden(folder, "gt_video.json")
    expected = golden(folder, "expected.json")["video"]
    if variant == "crowd":
        for track in truth["annotations"]:
            track["iscrowd"] = int(track["id"] in truth["info"]["crowd_variant_track_ids"])
    prefix = "" if variant == "visible" else "amodal_"
    found = ytvos_peer.score_tracks(
        truth,
        golden(folder, "pred_video.json"),
        masks=f"{prefix}segmentations",
        areas=f"{prefix}areas",
        class_agnostic=variant == "amodal_class_agnostic",
    )
    key = "amodal_crowd_variant" if variant == "crowd" else variant
    assert found == pytest.approx(expected[key], abs=1e-9)


@pytest.mark.usefixtures("small_workloads")
def test_benchmark_eval_all_sides_agree(tmp_path, capsys):
    tool = load_script("tools/benchmark.py")
    file = tmp_path / "eval.json"
    assert tool.main(["eval", "--rounds", "1", "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert written["machine"]["threads"] == 1
    rows = {(row["op"], row["case"]): row for row in written["results"]}
    assert {("image_ap", "W1"), ("image_ap", "W4"), ("video_ap", "W2")} <= rows.keys()
    assert rows["video_ap", "W3"]["floor"] == 12
    assert rows["image_ap", "W1"]["peers_ms"].keys() >= {"pycocotools", "hotcoco"}
    printed = capsys.readouterr().out
    for row in rows.values():
        assert row["roofline"] is None
        below = f"{row['op']} {row['case']}: below the floor"
        assert (below in printed) == (row["ratio"] < row["floor"])


@pytest.mark.usefixtures("small_workloads")
def test_trackeval_peer_gives_the_same_numbers_again():
    pytest.importorskip("trackeval", reason="the reference: pip install --no-deps trackeval")
    (case,) = (case for case in evaluation.eval_cases() if case.op == "tracking")
    inputs = case.make(None, None)
    first, again = case.peers[0].run(inputs), case.peers[0].run(inputs)
    assert first.tolist() == again.tolist()
    assert 0.2 < float(first[0]) < 0.9
    assert case.ours(inputs).tolist() == pytest.approx(first.tolist(), abs=1e-9)
