from __future__ import annotations

import json

import pytest

from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.video_json import read_video_json
from tools.benchmarks import evaluation_workloads, tracking
from tools.benchmarks.evaluation_workloads import Workload, make_videos

SMALL = Workload(
    videos=2, length=3, classes=2, truth=3, predicted=5, perturbed=4, height=80, width=120
)


def test_make_videos_is_the_same_every_time_and_valid(tmp_path):
    truth, predictions = make_videos(SMALL)
    assert (truth, predictions) == make_videos(SMALL)
    assert truth != make_videos(SMALL, seed=2)[0]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    dataset = read_video_json(tmp_path / "gt.json", strict=True)
    report = evaluate_video_tracks(dataset, predictions, metrics=["hota"])
    assert 20 < report.tracking["visible"].percent()["HOTA"] < 90


def test_tracking_benchmark_agrees_with_trackeval(monkeypatch, capsys):
    pytest.importorskip("trackeval", reason="the reference: pip install --no-deps trackeval")
    monkeypatch.setitem(evaluation_workloads.VIDEO_WORKLOADS, "W2", SMALL)
    tracking.main(["--rounds=1"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert float(head.split()[-1]) < 1e-9
    assert [row.split()[0] for row in rows] == ["TrackEval", "scores", "with"]
