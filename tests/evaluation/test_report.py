from __future__ import annotations

import json

import pytest

from amodal2.evaluation.report import APScores, VideoReport, format_table

REPORT = VideoReport(
    {
        "visible": APScores({"AP": 0.5, "APm": -1.0}, {"fish": 0.5, "crab": -1.0}),
        "amodal": APScores({"AP": 0.25, "APl": 1.0}),
    },
    {"videos": 2, "predicted tracks": 7},
    ["1 exact duplicates"],
)


def test_ap_scores_percent_leaves_undefined_metrics_out():
    scores = REPORT.rows["visible"]
    assert scores.percent() == {"AP": 50.0}
    assert scores.to_dict() == {"AP": 50.0, "per_category": {"fish": 50.0}}


def test_video_ap_report_prints_table_with_counts_and_notes():
    lines = str(REPORT).splitlines()
    assert lines[0] == "2 videos, 7 predicted tracks"
    assert lines[1].split() == "task (%) AP AP50 AP75 AR1 AR10 AR100 APl".split()
    assert lines[2].split() == "visible 50.00 - - - - - -".split()
    assert lines[3].split() == "amodal 25.00 - - - - - 100.00".split()
    assert lines[4] == "note: 1 exact duplicates"


def test_video_ap_report_json_is_text_and_file(tmp_path):
    path = tmp_path / "new" / "report.json"
    text = REPORT.to_json(path)
    assert json.loads(text) == json.loads(path.read_text()) == REPORT.to_dict()
    assert REPORT.to_dict()["results"]["amodal"]["AP"] == pytest.approx(25)


def test_format_table_columns_are_aligned():
    lines = format_table({"a": {"AP": 5.0}, "long name": {"AP": 100.0}}, ["AP"]).splitlines()
    assert lines == ["task (%)       AP", "a            5.00", "long name  100.00"]
