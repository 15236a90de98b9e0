from __future__ import annotations

import json

import numpy as np
import pytest

from amodal2.evaluation.comparison import compare
from amodal2.evaluation.completion import evaluate_completions
from amodal2.evaluation.completion_variants import VARIANTS
from amodal2.evaluation.image_protocols import ImageOptions, evaluate_images
from amodal2.evaluation.report import TrackingScores
from amodal2.evaluation.resampling import draw_weights
from amodal2.evaluation.tracking_details import METRICS
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.image_json import read_image_json
from amodal2.structures.video_json import read_video_json
from tests.conftest import golden_files
from tests.structures.toy_images import found, image_dataset, thing
from tests.structures.toy_videos import CRAB, bar, dataset, prediction, track, tube

BOTH = {"amodal_segm": bar(0, 10), "visible_segm": bar(0, 5)}


def ones(sampler) -> np.ndarray:
    return np.ones((1, len(sampler.scenes)), dtype=np.int64)


def assert_same(report_stats: dict, sampled: dict, names=None) -> None:
    """All scenes once must give the numbers of the report, undefined ones included."""
    for name in names or report_stats.keys() | sampled.keys():
        value = sampled[name][0]
        if name in report_stats:
            assert value == pytest.approx(report_stats[name], abs=1e-9), name
        else:
            assert np.isnan(value), name


@pytest.mark.parametrize("protocol", ["coco", "cocoa"])
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_image_samplers_of_all_scenes_give_the_report(folder, protocol):
    truth = read_image_json(folder / "gt_image.json")
    records = json.loads((folder / "pred_image.json").read_text())
    options = ImageOptions(class_agnostic=True, occlusion=("cocoa", "vrsp"))
    report = evaluate_images(truth, records, protocol=protocol, options=options)
    kept = {row for _, row in report.samplers}
    assert kept == {row for row in report.rows if "/vrsp/" not in row}
    for (_, row), sampler in report.samplers.items():
        assert_same(report.rows[row].percent(), sampler.sample(ones(sampler)))


@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_video_samplers_of_all_scenes_give_the_report(folder):
    truth = read_video_json(folder / "gt_video.json")
    records = json.loads((folder / "pred_video.json").read_text())
    report = evaluate_video_tracks(
        truth, records, metrics=("ap", "hota"), occlusion_bins=True, class_agnostic=True
    )
    tables: dict = {**report.tracking}
    for (protocol, row), sampler in report.samplers.items():
        scores = report.rows[row] if protocol.startswith("YTVIS") else tables.pop(row)
        names = METRICS if isinstance(scores, TrackingScores) else None
        assert_same(scores.percent(), sampler.sample(ones(sampler)), names)
    assert tables == {}


def twice(records: list[dict], key: str, number: int) -> list[dict]:
    """Return the records of a scene a second time, under another number."""
    return records + [{**one, key: number} for one in records if one[key] == 1]


def test_image_sampler_weights_are_copies_of_the_scene(tmp_path):
    objects = [thing(1), thing(2, category=CRAB), thing(3, image=2)]
    records = [
        found(0.9, amodal_segm=bar(0, 7), visible_segm=bar(0, 5)),
        found(0.8, amodal_segm=bar(12, 19), visible_segm=bar(13, 16)),
        found(0.7, category=CRAB, **BOTH),
        found(0.6, image=2, **BOTH),
    ]
    once = evaluate_images(image_dataset(tmp_path, *objects, images=2), records)
    copies = [
        {**one, "id": number} for number, one in enumerate(twice(objects, "image_id", 3), start=1)
    ]
    again = evaluate_images(
        image_dataset(tmp_path, *copies, images=3), twice(records, "image_id", 3)
    )
    for (_, row), sampler in once.samplers.items():
        assert_same(again.rows[row].percent(), sampler.sample(np.array([[2, 1]])))


def test_video_sampler_weights_are_copies_of_the_scene(tmp_path):
    tracks = [track(1), track(2, category=CRAB), track(3, video=2)]
    records = [
        prediction(0.9, segmentations=tube(bar(0, 6))),
        prediction(0.8, segmentations=tube(bar(2, 10))),
        prediction(0.7, video=2, segmentations=tube(bar(0, 9), bar(0, 10), None)),
    ]
    options = {"metrics": ("ap", "hota")}
    once = evaluate_video_tracks(dataset(tmp_path, *tracks, videos=2), records, **options)
    copies = [
        {**one, "id": number} for number, one in enumerate(twice(tracks, "video_id", 3), start=1)
    ]
    again = evaluate_video_tracks(
        dataset(tmp_path, *copies, videos=3), twice(records, "video_id", 3), **options
    )
    for (protocol, row), sampler in once.samplers.items():
        sampled = sampler.sample(np.array([[2, 1]]))
        if protocol.startswith("YTVIS"):
            assert_same(again.rows[row].percent(), sampled)
        else:
            assert_same(again.tracking[row].percent(), sampled, METRICS)


def test_completion_sampler_weights_are_copies_of_the_scene(tmp_path):
    objects = [
        thing(1, amodal_segm=bar(0, 12)),
        thing(2, amodal_segm=bar(4, 16), visible_segm=bar(12, 16)),
        thing(3, image=2),
    ]
    records = [
        {"gt_id": 1, "amodal_segm": bar(0, 9)},
        {"gt_id": 2, "amodal_segm": bar(5, 18)},
        {"gt_id": 3, "amodal_segm": bar(0, 8)},
    ]
    names = list(VARIANTS)
    once = evaluate_completions(
        image_dataset(tmp_path, *objects, images=2), records, protocols=names
    )
    copies = [
        {**one, "id": number} for number, one in enumerate(twice(objects, "image_id", 3), start=1)
    ]
    more = [*records, {**records[0], "gt_id": 4}, {**records[1], "gt_id": 5}]
    again = evaluate_completions(
        image_dataset(tmp_path, *copies, images=3), more, protocols=names
    ).percent()
    for (protocol, _), sampler in once.samplers.items():
        assert_same(again[protocol], sampler.sample(np.array([[2, 1]])))


def reports(folder, images: int):
    """Return the samplers of two predictions of which the second is right in every image."""
    truth = image_dataset(folder, *(thing(i, image=i) for i in range(1, images + 1)), images=images)
    half = [
        found(0.9, image=i, amodal_segm=bar(0, 10 - i % 6), visible_segm=bar(0, 5))
        for i in range(1, images + 1)
    ]
    right = [found(0.9, image=i, **BOTH) for i in range(1, images + 1)]
    return [evaluate_images(truth, records).samplers for records in (half, right)]


def test_compare_gives_difference_and_interval(tmp_path):
    first, second = reports(tmp_path, 12)
    result = compare(first, second, resamples=200)
    by_row = {(one.row, one.metric): one for one in result.differences}
    better = by_row["amodal", "AP"]
    assert better.second == pytest.approx(100)
    assert better.difference == pytest.approx(100 - better.first)
    assert 0 < better.low < better.difference < better.high
    assert better.clear
    same = by_row["visible", "AP"]
    assert (same.low, same.high, same.clear) == (0, 0, False)
    assert "12 scenes, 200 resamples, seed 0" in str(result)
    assert str(result).count(" *") == sum(one.clear for one in result.differences)


def test_compare_seed_decides_the_draws(tmp_path):
    first, second = reports(tmp_path, 12)
    intervals = [
        [(one.low, one.high) for one in compare(first, second, resamples=50, seed=s).differences]
        for s in (1, 1, 2)
    ]
    assert intervals[0] == intervals[1]
    assert intervals[0] != intervals[2]


def test_compare_stores_json(tmp_path):
    result = compare(*reports(tmp_path, 3), resamples=10)
    result.to_json(tmp_path / "out.json")
    stored = json.loads((tmp_path / "out.json").read_text())
    assert stored == result.to_dict()
    assert (stored["resamples"], stored["scenes"], stored["interval_percent"]) == (10, 3, 95)


def test_compare_rows_of_one_report_become_notes(tmp_path):
    first, second = reports(tmp_path, 2)
    del second["coco", "visible"]
    assert "visible (coco): only in A" in compare(first, second, resamples=2).notes


def test_compare_refuses_what_has_nothing_in_common(tmp_path):
    first, second = reports(tmp_path, 2)
    with pytest.raises(ValueError, match="got 0 resamples"):
        compare(first, second, resamples=0)
    with pytest.raises(ValueError, match="a row that both reports have"):
        compare(first, {}, resamples=2)
    other, _ = reports(tmp_path, 3)
    with pytest.raises(ValueError, match=r"the same 2 scenes .* got 2 and 3"):
        compare(first, other, resamples=2)


def test_draw_weights_draws_as_many_scenes_as_there_are():
    weights = draw_weights(5, 100, seed=3)
    assert weights.shape == (100, 5)
    assert set(weights.sum(axis=1)) == {5}
    assert len(np.unique(weights, axis=0)) > 50
