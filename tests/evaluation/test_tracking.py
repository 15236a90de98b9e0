from __future__ import annotations

import json
import random

import numpy as np
import pytest

from amodal2.evaluation.report import TRACKING_FRACTIONS
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.video_json import read_video_json
from tests.conftest import golden_files
from tests.structures.toy_videos import (
    CRAB,
    FISH,
    bar,
    content,
    dataset,
    prediction,
    track,
    tube,
    write,
)

BOX = "amodal_bboxes"
GOLDEN_ROWS = {
    "mask_amodal_YouTubeVIS": "amodal",
    "mask_visible_YouTubeVIS": "visible",
    "box_amodal_per_class_TAO": "amodal_box",
}
AVERAGES = {"cls_comb_cls_av": "all_classes_average", "cls_comb_det_av": "detection_average"}
ALL = {"metrics": ("ap", "hota"), "boxes": True, "class_agnostic": True, "occlusion_bins": True}


def golden(folder, name: str):
    return json.loads((folder / name).read_text())


def assert_stats(found: dict, expected: dict) -> None:
    named = {name: value for name, value in expected.items() if not name.startswith("Track")}
    assert set(named) == set(found)
    for name, value in named.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("key", GOLDEN_ROWS)
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_golden_tracking_per_class(folder, key):
    expected = golden(folder, "expected.json")["tracking"][key]
    predictions = golden(folder, "pred_video.json")
    row = GOLDEN_ROWS[key]
    if row == "amodal_box":
        for record in predictions:
            # TAO's score of a track is the mean of its boxes' scores; its rounding breaks ties.
            frames = sum(box is not None for box in record[BOX])
            record["score"] = float(np.mean([record["score"]] * frames))
    report = evaluate_video_tracks(read_video_json(folder / "gt_video.json"), predictions, **ALL)
    tracking, ap = report.tracking[row], report.rows[row]
    for name, values in expected.items():
        if name in AVERAGES:
            assert_stats(tracking.averages[AVERAGES[name]], values)
            assert ap.stats["AP"] == pytest.approx(values["TrackAP"], abs=1e-9)
            assert ap.stats["AR100"] == pytest.approx(values["TrackAR"], abs=1e-9)
        else:
            assert_stats(tracking.per_category[name], values)
            assert ap.per_category[name] == pytest.approx(values["TrackAP"], abs=1e-9)
    with_truth = [name for name in tracking.per_category if expected[name]["GT_Dets"]]
    mean = np.mean([expected[name]["HOTA"] for name in with_truth])
    assert tracking.percent()["HOTA"] == pytest.approx(100 * mean, abs=1e-9)


@pytest.mark.parametrize(("threshold", "suffix"), [(None, ""), (0.3, "_score_ge_0.3")])
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_golden_tracking_class_agnostic_boxes(folder, threshold, suffix):
    key = f"box_amodal_class_agnostic_MotChallenge2DBox{suffix}"
    report = evaluate_video_tracks(
        read_video_json(folder / "gt_video.json"),
        golden(folder, "pred_video.json"),
        score_threshold=threshold,
        **ALL,
    )
    found = report.tracking["amodal_box_class_agnostic"].averages["class_agnostic"]
    assert_stats(found, golden(folder, "expected.json")["tracking"][key])


@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_golden_tracking_truth_fed_back_is_perfect(folder):
    truth = read_video_json(folder / "gt_video.json")
    back = [dict(record, score=0.5) for record in truth.annotations]
    report = evaluate_video_tracks(truth, back, **ALL)
    assert len(report.tracking) == 12
    for scores in report.tracking.values():
        found = scores.percent()
        assert [found[name] for name in TRACKING_FRACTIONS] == pytest.approx([100] * 15)
        # Fragments are not among them: gaps of the true tracks themselves count as such.
        assert [found[name] for name in ("IDSW", "CLR_FP", "CLR_FN", "PT", "ML")] == [0] * 5


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_golden_tracking_order_does_not_matter(folder, ids, tmp_path):
    data, predictions = golden(folder, "gt_video.json"), golden(folder, "pred_video.json")
    if not ids:
        for record in predictions:
            del record["track_id"]
    options = {**ALL, "metrics": ("hota",)}
    before = evaluate_video_tracks(
        read_video_json(folder / "gt_video.json"), predictions, **options
    )
    for entries in (data["videos"], data["categories"], data["annotations"], predictions):
        random.shuffle(entries)
    after = evaluate_video_tracks(read_video_json(write(tmp_path, data)), predictions, **options)
    assert before.tracking == after.tracking


def hidden(number: int, columns: int = 20, **more) -> dict:
    return track(number, amodal_segmentations=tube(bar(0, columns)), **more)


def test_tracking_wrong_class_is_a_false_positive_and_a_miss(tmp_path):
    wrong = [prediction(0.9, category=CRAB, segmentations=tube(bar(0, 10)))]
    truth = dataset(tmp_path, track(1))
    tracking = evaluate_video_tracks(truth, wrong, metrics=["hota"], class_agnostic=True).tracking
    averages = tracking["visible"].averages
    assert averages["class_average"]["CLR_FN"] == 3
    assert averages["class_average"]["CLR_FP"] == 0
    assert averages["detection_average"]["CLR_FP"] == 3
    assert set(tracking["visible"].per_category) == {"fish", "crab"}
    assert tracking["visible_class_agnostic"].percent()["HOTA"] == pytest.approx(100)


def test_tracking_averages_differ_by_classes_without_data(tmp_path):
    found = [prediction(0.9, segmentations=tube(bar(0, 10)))]
    report = evaluate_video_tracks(dataset(tmp_path, track(1)), found, metrics=["hota"])
    averages = {n: s["HOTA"] for n, s in report.tracking["visible"].averages.items()}
    assert averages == pytest.approx(
        {"class_average": 1, "all_classes_average": 0.5, "detection_average": 1}
    )
    assert list(report.tracking["visible"].per_category) == ["fish"]


def test_tracking_unpredicted_kind_has_no_row(tmp_path):
    visible = [prediction(0.9, segmentations=tube(bar(0, 10)))]
    report = evaluate_video_tracks(
        dataset(tmp_path, hidden(1)), visible, metrics=["hota"], boxes=True
    )
    assert (list(report.tracking), report.rows) == (["visible"], {})


def test_tracking_boxes_need_no_masks(tmp_path):
    boxes = [[0, 0, 20, 4]] * 2 + [None]
    predicted = [prediction(0.9, segmentations=tube(bar(0, 10)), amodal_bboxes=boxes)]
    report = evaluate_video_tracks(
        dataset(tmp_path, hidden(1)), predicted, metrics=["ap", "hota"], boxes=True
    )
    assert list(report.tracking) == list(report.rows) == ["visible", "amodal_box"]
    assert report.tracking["amodal_box"].percent()["DetRe"] == pytest.approx(200 / 3)
    assert report.rows["amodal_box"].stats["AP50"] == pytest.approx(1)
    assert "APs" not in report.rows["amodal_box"].stats


def test_tracking_boxes_of_the_truth_need_no_masks_and_may_leave_the_frame(tmp_path):
    boxes = [[-10, 0, 20, 4]] * 3
    truth = dataset(tmp_path, track(1, amodal_bboxes=boxes, occlusion_rates=[0.6] * 3))
    predicted = [prediction(0.9, segmentations=tube(bar(0, 10)), amodal_bboxes=boxes)]
    report = evaluate_video_tracks(
        truth, predicted, metrics=["hota"], boxes=True, occlusion_bins=True
    )
    found = {name: row.percent().get("HOTA") for name, row in report.tracking.items()}
    assert found == {
        **{"visible": pytest.approx(100), "visible_lt50": None, "visible_gt50": pytest.approx(100)},
        "amodal_box": pytest.approx(100),
        "amodal_box_lt50": None,
        "amodal_box_gt50": pytest.approx(100),
    }


def test_tracking_without_predictions_is_zero(tmp_path):
    report = evaluate_video_tracks(dataset(tmp_path, hidden(1)), [], metrics=["hota"], boxes=True)
    assert list(report.tracking) == ["visible", "amodal", "amodal_box"]
    for row in report.tracking.values():
        found = row.percent()
        assert (found["HOTA"], found["IDF1"], found["CLR_FN"], found["IDSW"]) == (0, 0, 3, 0)


def test_tracking_without_truth_is_undefined(tmp_path):
    found = [prediction(0.5, segmentations=tube(bar(0, 10)))]
    report = evaluate_video_tracks(dataset(tmp_path), found, metrics=["hota"], class_agnostic=True)
    assert report.tracking["visible"].percent() == {}
    assert report.tracking["visible_class_agnostic"].percent() == {}
    assert report.tracking["visible"].averages["detection_average"]["CLR_FP"] == 3


def test_tracking_score_threshold_leaves_ap_alone(tmp_path):
    truth = dataset(tmp_path, track(1))
    both = [
        prediction(0.9, segmentations=tube(bar(0, 10))),
        prediction(0.2, segmentations=tube(bar(12, 20))),
    ]
    options = {"metrics": ["ap", "hota"]}
    free = evaluate_video_tracks(truth, both, **options)
    tight = evaluate_video_tracks(truth, both, score_threshold=0.9, **options)
    assert free.rows == tight.rows
    assert free.tracking["visible"].percent()["CLR_FP"] == 3
    assert tight.tracking["visible"].percent()["CLR_FP"] == 0
    assert "all predictions" in free.tracking["visible"].protocol
    assert "score >= 0.9" in tight.tracking["visible"].protocol


def test_tracking_occlusion_parts_do_not_blame_predictions_of_other_tracks(tmp_path):
    little = track(1, amodal_segmentations=tube(bar(0, 10)), segmentations=tube(bar(0, 8)))
    much = track(2, amodal_segmentations=tube(bar(10, 20)), segmentations=tube(bar(10, 12)))
    predicted = [
        prediction(0.9, segmentations=one["segmentations"], amodal_segmentations=amodal)
        for one, amodal in ((little, tube(bar(0, 10))), (much, tube(bar(14, 20))))
    ]
    rows = evaluate_video_tracks(
        dataset(tmp_path, little, much), predicted, metrics=["hota"], occlusion_bins=True
    ).tracking
    assert set(rows) == {f"{k}{b}" for k in ("visible", "amodal") for b in ("", "_lt50", "_gt50")}
    for part in ("visible_lt50", "visible_gt50", "amodal_lt50"):
        assert (rows[part].percent()["CLR_FP"], rows[part].percent()["CLR_TP"]) == (0, 3), part
    # The amodal prediction reaches an IoU of .6 only: all of it counts up to that threshold.
    assert rows["amodal_gt50"].percent()["DetA"] == pytest.approx(100 * 12 / 19)
    assert "outside the bin" in rows["amodal_gt50"].protocol


def test_tracking_unknown_occlusion_has_no_bins(tmp_path):
    found = [prediction(0.5, segmentations=tube(bar(0, 10)))]
    report = evaluate_video_tracks(
        dataset(tmp_path, track(1)), found, metrics=["hota"], occlusion_bins=True
    )
    assert list(report.tracking) == ["visible"]


def test_tracking_stops_at_an_unknown_metric(tmp_path):
    with pytest.raises(ValueError, match=r"metrics among \['ap', 'hota'\], got \['mota'\]"):
        evaluate_video_tracks(dataset(tmp_path, track(1)), [], metrics=["mota"])


def test_tracking_needs_as_many_predictions_as_there_are(tmp_path):
    extra = [prediction(0.5, segmentations=tube(bar(12, 13))) for _ in range(150)]
    truth = read_video_json(write(tmp_path, content(track(1, category=FISH))))
    report = evaluate_video_tracks(truth, extra, metrics=["ap", "hota"])
    assert report.tracking["visible"].percent()["CLR_FP"] == 450
    assert report.rows["visible"].percent()["AP"] == 0
