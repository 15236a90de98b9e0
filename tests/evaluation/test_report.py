from __future__ import annotations

import csv
import io
import json

import pytest

from amodal2.evaluation.report import (
    AP_PROTOCOL,
    APScores,
    TrackingScores,
    VideoReport,
    format_table,
)

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


def test_video_report_prints_table_with_counts_and_notes():
    lines = str(REPORT).splitlines()
    assert lines[0] == "2 videos, 7 predicted tracks"
    assert lines[1].split() == "task (%) AP AP50 AP75 AR1 AR10 AR100 APl".split()
    assert lines[2].split() == "visible 50.00 - - - - - -".split()
    assert lines[3].split() == "amodal 25.00 - - - - - 100.00".split()
    assert lines[4].startswith("AP, AR: YTVIS")
    assert lines[5] == "note: 1 exact duplicates"


def test_video_report_json_is_text_and_file(tmp_path):
    path = tmp_path / "new" / "report.json"
    text = REPORT.to_json(path)
    assert json.loads(text) == json.loads(path.read_text()) == REPORT.to_dict()
    assert REPORT.to_dict()["results"]["amodal"]["AP"] == pytest.approx(25)


def test_format_table_columns_are_aligned():
    lines = format_table({"a": {"AP": 5.0}, "long name": {"AP": 100.0}}, ["AP"]).splitlines()
    assert lines == ["task (%)       AP", "a            5.00", "long name  100.00"]


AVERAGE = {"HOTA": 0.25, "MOTA": -0.5, "IDSW": 3}
TRACKING = {
    "visible": TrackingScores("all count", {"class_average": AVERAGE}, {"fish": {"HOTA": 0.5}}),
    "amodal": TrackingScores("all count", {"class_average": {}, "detection_average": {"IDSW": 4}}),
}


def test_tracking_scores_percent_takes_the_first_average_and_keeps_numbers():
    assert TRACKING["visible"].percent() == {"HOTA": 25.0, "MOTA": -50.0, "IDSW": 3}
    assert TRACKING["amodal"].percent() == {}


def test_video_report_prints_tracking_with_its_protocol():
    lines = str(VideoReport(tracking=TRACKING, notes=["late"])).splitlines()
    names = "task (%) HOTA DetA AssA LocA IDF1 IDP IDR MOTA IDSW Frag"
    assert lines[1].split() == names.split()
    assert lines[2].split() == "visible 25.00 - - - - - - -50.00 3 -".split()
    assert lines[3].split() == ["amodal", *"-" * 10]
    assert lines[4:] == ["visible, amodal: all count", "note: late"]


def test_video_report_dict_has_tracking_only_where_it_was_computed():
    assert "tracking" not in REPORT.to_dict()
    assert VideoReport(tracking=TRACKING).to_dict()["tracking"]["visible"] == {
        "protocol": "all count",
        "class_average": {"HOTA": 25.0, "MOTA": -50.0, "IDSW": 3},
        "per_category": {"fish": {"HOTA": 50.0}},
    }


def test_video_report_csv_has_one_number_per_line(tmp_path):
    path = tmp_path / "new" / "report.csv"
    text = VideoReport(REPORT.rows, tracking=TRACKING).to_csv(path)
    assert path.read_text() == text
    head, *lines = csv.reader(io.StringIO(text))
    assert head == ["task", "protocol", "row", "group", "category", "metric", "value"]
    ap, tracking = ["video", AP_PROTOCOL], ["video", "all count"]
    assert lines == [
        [*ap, "visible", "mean", "", "AP", "50.0"],
        [*ap, "visible", "category", "fish", "AP", "50.0"],
        [*ap, "amodal", "mean", "", "AP", "25.0"],
        [*ap, "amodal", "mean", "", "APl", "100.0"],
        [*tracking, "visible", "class_average", "", "HOTA", "25.0"],
        [*tracking, "visible", "class_average", "", "MOTA", "-50.0"],
        [*tracking, "visible", "class_average", "", "IDSW", "3"],
        [*tracking, "visible", "category", "fish", "HOTA", "50.0"],
        [*tracking, "amodal", "detection_average", "", "IDSW", "4"],
    ]
