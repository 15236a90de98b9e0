from __future__ import annotations

import contextlib
import io
import json
import random

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.rle import encode_mask, rle_area
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


def golden(folder, name: str):
    return json.loads((folder / name).read_text())


def assert_stats(scores, expected: dict) -> None:
    assert set(scores.stats) == set(expected)
    for name, value in expected.items():
        assert scores.stats[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_video_tracks_golden_masks(folder):
    expected = golden(folder, "expected.json")["video"]
    report = evaluate_video_tracks(
        read_video_json(folder / "gt_video.json"),
        golden(folder, "pred_video.json"),
        class_agnostic=True,
        occlusion_bins=True,
    )
    assert_stats(report.rows["amodal"], expected["amodal"])
    assert_stats(report.rows["visible"], expected["visible"])
    assert_stats(report.rows["amodal_class_agnostic"], expected["amodal_class_agnostic"])
    for name, stats in expected["amodal_by_track_occlusion"].items():
        assert_stats(report.rows[f"amodal_{name}"], stats)


@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_video_tracks_golden_crowd_variant(folder):
    truth = read_video_json(folder / "gt_video.json")
    crowd = golden(folder, "gt_video.json")["info"]["crowd_variant_track_ids"]
    for record in truth.annotations:
        record["iscrowd"] = int(record["id"] in crowd)
    report = evaluate_video_tracks(truth, golden(folder, "pred_video.json"))
    expected = golden(folder, "expected.json")["video"]
    assert_stats(report.rows["amodal"], expected["amodal_crowd_variant"])


@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_video_tracks_golden_truth_fed_back_is_perfect(folder):
    truth = read_video_json(folder / "gt_video.json")
    back = [dict(record, score=0.5) for record in truth.annotations]
    report = evaluate_video_tracks(truth, back, class_agnostic=True)
    assert [row.percent()["AP"] for row in report.rows.values()] == pytest.approx([100] * 4)


@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_video_tracks_golden_order_of_videos_does_not_matter(folder, tmp_path):
    data, predictions = golden(folder, "gt_video.json"), golden(folder, "pred_video.json")
    before = evaluate_video_tracks(read_video_json(folder / "gt_video.json"), predictions)
    order = [video["id"] for video in data["videos"]]
    random.shuffle(order)
    data["videos"].sort(key=lambda video: order.index(video["id"]))
    data["annotations"].sort(key=lambda record: order.index(record["video_id"]))
    predictions.sort(key=lambda record: order.index(record["video_id"]))
    after = evaluate_video_tracks(read_video_json(write(tmp_path, data)), predictions)
    assert before.rows == after.rows


PART = tube(bar(0, 10), bar(0, 10), None)
"""IoU 2/3 with ten columns in all frames: found at 4 of the 10 thresholds."""


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        pytest.param(
            [prediction(0.9, segmentations=tube(bar(0, 10)))],
            {"AP": 100, "AP50": 100, "AP75": 100, "AR1": 100},
            id="same",
        ),
        pytest.param(
            [prediction(0.9, segmentations=PART)],
            {"AP": 40, "AP50": 100, "AP75": 0, "AR1": 40},
            id="two-thirds",
        ),
        pytest.param(
            [
                prediction(0.9, segmentations=tube(bar(12, 20))),
                prediction(0.8, segmentations=tube(bar(0, 10))),
            ],
            {"AP": 50, "AP50": 50, "AR1": 0, "AR10": 100},
            id="false-positive-first",
        ),
        pytest.param(
            [prediction(0.9, category=CRAB, segmentations=tube(bar(0, 10)))],
            {"AP": 0, "AP50": 0, "AR100": 0},
            id="wrong-class",
        ),
        pytest.param([], {"AP": 0, "AP50": 0, "AR1": 0, "AR100": 0}, id="none"),
    ],
)
def test_evaluate_video_tracks_hand_computed(tmp_path, predictions, expected):
    report = evaluate_video_tracks(dataset(tmp_path, track(1)), predictions)
    found = report.rows["visible"].percent()
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert not {"APm", "APl", "ARm", "ARl"} & set(found)


def test_evaluate_video_tracks_two_tracks_give_the_hand_computed_curve(tmp_path):
    truth = dataset(tmp_path, track(1), track(2, segmentations=tube(bar(11, 20))))
    predictions = [
        prediction(0.9, segmentations=tube(bar(0, 10))),
        prediction(0.8, segmentations=tube(bar(4, 14))),
        prediction(0.7, segmentations=tube(bar(11, 20))),
    ]
    report = evaluate_video_tracks(truth, predictions)
    assert report.rows["visible"].stats["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert report.rows["visible"].per_category == {
        "fish": report.rows["visible"].stats["AP"],
        "crab": -1.0,
    }


def hidden_track(number: int = 1, columns: int = 20, **more) -> dict:
    return track(number, amodal_segmentations=tube(bar(0, columns)), **more)


def test_evaluate_video_tracks_unpredicted_kind_has_no_row(tmp_path):
    visible = [prediction(0.9, segmentations=tube(bar(0, 10)))]
    report = evaluate_video_tracks(dataset(tmp_path, hidden_track()), visible)
    assert list(report.rows) == ["visible"]
    amodal = [prediction(0.9, amodal_segmentations=tube(bar(0, 20)))]
    report = evaluate_video_tracks(dataset(tmp_path, hidden_track()), amodal)
    assert list(report.rows) == ["amodal"]
    assert report.rows["amodal"].percent()["AP"] == pytest.approx(100)


def test_evaluate_video_tracks_visible_only_truth_has_no_amodal_row(tmp_path):
    both = {"segmentations": tube(bar(0, 10)), "amodal_segmentations": tube(bar(0, 20))}
    report = evaluate_video_tracks(
        dataset(tmp_path, track(1)), [prediction(0.5, **both)], visible_as_amodal=True
    )
    assert list(report.rows) == ["visible"]


def test_evaluate_video_tracks_without_predictions_scores_both_kinds_zero(tmp_path, caplog):
    report = evaluate_video_tracks(dataset(tmp_path, hidden_track()), [])
    assert [row.stats["AP"] for row in report.rows.values()] == [0.0, 0.0]
    assert "no predictions for 1 true tracks" in caplog.text


def test_evaluate_video_tracks_without_truth_is_undefined(tmp_path):
    report = evaluate_video_tracks(
        dataset(tmp_path), [prediction(0.5, segmentations=tube(bar(0, 10)))]
    )
    assert report.rows["visible"].percent() == {}
    assert "-" in str(report)


def test_evaluate_video_tracks_visible_as_amodal_scores_visible_masks(tmp_path):
    lists = {"segmentations": tube(bar(0, 12)), "amodal_segmentations": tube(bar(0, 20))}
    report = evaluate_video_tracks(
        dataset(tmp_path, hidden_track()),
        [prediction(0.5, amodal_score=0.1, **lists)],
        visible_as_amodal=True,
    )
    assert report.rows["visible_as_amodal"].percent()["AP"] == pytest.approx(30)
    assert report.rows["amodal"].percent()["AP"] == pytest.approx(100)


def test_evaluate_video_tracks_amodal_takes_its_own_score(tmp_path):
    truth = dataset(tmp_path, hidden_track())
    good = {"segmentations": tube(bar(0, 10)), "amodal_segmentations": tube(bar(0, 20))}
    poor = {"segmentations": tube(bar(12, 20)), "amodal_segmentations": tube(bar(19, 20))}
    predictions = [
        prediction(0.9, amodal_score=0.1, **good),
        prediction(0.8, amodal_score=0.2, **poor),
    ]
    rows = evaluate_video_tracks(truth, predictions).rows
    assert rows["visible"].percent()["AP"] == pytest.approx(100)
    assert rows["amodal"].percent()["AP"] == pytest.approx(50)


@pytest.mark.parametrize("rates", [None, [0.5, 0.5, 0.5]])
def test_evaluate_video_tracks_occlusion_bins_split_at_one_half(tmp_path, rates):
    half = hidden_track(1, **({} if rates is None else {"occlusion_rates": rates}))
    most = hidden_track(2, segmentations=tube(bar(0, 10), None, None), video=2)
    truth = dataset(tmp_path, half, most, videos=2)
    found = prediction(0.9, amodal_segmentations=tube(bar(0, 20)))
    rows = evaluate_video_tracks(truth, [found], occlusion_bins=True).rows
    assert rows["amodal_lt50"].percent()["AP"] == pytest.approx(100)
    assert rows["amodal_gt50"].percent()["AP"] == pytest.approx(0)


def test_evaluate_video_tracks_class_agnostic_ignores_the_class(tmp_path):
    wrong = [prediction(0.9, category=CRAB, segmentations=tube(bar(0, 10)))]
    rows = evaluate_video_tracks(dataset(tmp_path, track(1)), wrong, class_agnostic=True).rows
    assert rows["visible"].percent()["AP"] == 0
    assert rows["visible_class_agnostic"].percent()["AP"] == pytest.approx(100)


def test_evaluate_video_tracks_track_without_masks_is_left_out(tmp_path):
    unseen = hidden_track(2, segmentations=tube(None))
    found = [prediction(0.9, segmentations=tube(bar(0, 10)))]
    report = evaluate_video_tracks(dataset(tmp_path, track(1), unseen), found)
    assert report.rows["visible"].percent()["AP"] == pytest.approx(100)
    assert "1 true tracks without any mask left out of visible" in report.notes


def test_evaluate_video_tracks_area_of_the_file_decides_the_size(tmp_path):
    truth = dataset(tmp_path, track(1, areas=[20000, 20000, 20000]))
    scores = evaluate_video_tracks(truth, [prediction(0.9, segmentations=tube(bar(0, 10)))]).rows[
        "visible"
    ]
    assert scores.stats["APm"] == pytest.approx(1)
    assert scores.stats["APs"] == -1


def test_evaluate_video_tracks_single_frames_equal_coco_images(tmp_path):
    truth, predictions = random_images(np.random.default_rng(0))
    found = evaluate_video_tracks(read_video_json(write(tmp_path, truth)), predictions)
    images = {
        "images": [{"id": video["id"], "height": 24, "width": 32} for video in truth["videos"]],
        "categories": truth["categories"],
        "annotations": [as_image(record) for record in truth["annotations"]],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(write(tmp_path, images))
        run = COCOeval(coco, coco.loadRes([as_image(record) for record in predictions]), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    names = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")
    assert 0.1 < run.stats[0] < 0.9
    assert [found.rows["visible"].stats[name] for name in names] == run.stats[
        [0, 1, 2, 6, 7, 8]
    ].tolist()


def as_image(record: dict) -> dict:
    """Turn a track of one frame into a COCO image annotation."""
    (mask,) = record["segmentations"]
    kept = {key: record[key] for key in ("id", "category_id", "iscrowd", "score") if key in record}
    return {**kept, "image_id": record["video_id"], "segmentation": mask, "area": rle_area(mask)}


def random_images(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """Return videos of one frame with boxes, and shifted boxes with many equal scores."""
    data = content()
    predictions = []
    for video in range(1, 7):
        frame = {"id": video, "height": 24, "width": 32, "file_names": [f"{video}/0.png"]}
        data["videos"] = [*data["videos"], frame] if video > 1 else [frame]
        for _ in range(8):
            y, x, h, w = rng.integers((0, 0, 4, 4), (14, 20, 10, 12))
            category = int(rng.choice([FISH, CRAB]))
            mask = np.zeros((24, 32), dtype=bool)
            mask[y : y + h, x : x + w] = True
            number = len(data["annotations"]) + 1
            data["annotations"].append(
                track(number, video, category, segmentations=[encode_mask(mask)])
            )
            for _ in range(2):
                moved = np.roll(mask, rng.integers(-2, 3, 2), axis=(0, 1))
                score = float(rng.integers(1, 6)) / 5
                predictions.append(
                    prediction(score, video, category, segmentations=[encode_mask(moved)])
                )
    return data, predictions
