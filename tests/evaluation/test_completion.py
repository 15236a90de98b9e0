from __future__ import annotations

import csv
import io
import json

import pytest

from amodal2.evaluation.completion import DEFAULT_PROTOCOLS, evaluate_completions
from amodal2.evaluation.completion_variants import VARIANTS
from amodal2.structures.video_json import read_video_json
from tests.conftest import golden_files
from tests.structures.toy_images import image_dataset, thing
from tests.structures.toy_videos import bar, dataset, track, tube


def golden(folder, name: str):
    return json.loads((folder / name).read_text())


@pytest.mark.parametrize("key", ["miou"])
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_completions_golden(folder, key):
    expected = golden(folder, "expected.json")[key]
    truth = read_video_json(folder / "gt_video.json")
    report = evaluate_completions(
        truth, golden(folder, "pred_completion.json"), protocols=list(expected)
    )
    for name, numbers in expected.items():
        scores = report.protocols[name]
        assert {**scores.values, **scores.counts} == pytest.approx(numbers, abs=1e-5), name
    assert set(expected) == set(VARIANTS) - {"partly_hidden"}


PERFECT_OCC = {"c2f_image": "occ", "diffusion_vas": "miou_occ"}


@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_completions_golden_truth_fed_back_is_perfect(folder):
    truth = read_video_json(folder / "gt_video.json")
    back = [{"gt_id": r["id"], **r} for r in truth.annotations]
    report = evaluate_completions(truth, back, protocols=list(VARIANTS))
    percent = report.percent()
    for name, values in percent.items():
        if name == "savos_kins_car":
            assert values == {}  # values of exactly 1 are left out
        elif name.startswith("savos"):
            assert list(values.values()) == pytest.approx([100] * 4)
        else:
            assert values.get("full", values.get("miou")) == pytest.approx(100, abs=1e-4)
    for name, key in PERFECT_OCC.items():
        assert percent[name][key] == pytest.approx(100, abs=1e-4)


@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_completions_golden_order_does_not_matter(folder):
    truth = read_video_json(folder / "gt_video.json")
    predictions = golden(folder, "pred_completion.json")
    before = evaluate_completions(truth, predictions, protocols=list(VARIANTS)).percent()
    truth.annotations.reverse()
    after = evaluate_completions(truth, predictions[::-1], protocols=list(VARIANTS)).percent()
    for name, values in before.items():
        assert after[name] == pytest.approx(values, abs=1e-9)


HALF = thing(1)
"""Columns 0 to 10, of which 0 to 5 are visible."""


@pytest.mark.parametrize(
    ("columns", "protocol", "expected"),
    [
        # Hidden 5..10, predicted hidden part 5..8 (3 of 5) or 5..13 (5 of 8).
        ((0, 8), "c2f_image", {"full": 0.8, "full_post": 0.8, "occ": 0.6, "occ_post": 0.6}),
        ((2, 8), "c2f_image", {"full": 0.6, "full_post": 0.8, "occ": 0.6, "occ_post": 0.6}),
        ((0, 13), "eoras", {"full": 10 / 13, "occ": 5 / 8}),
        ((0, 8), "diffusion_vas_box", {"AP25": 1, "AP50": 1, "AP75": 1, "miou": 0.8}),
        ((6, 8), "diffusion_vas_box", {"AP25": 1, "AP50": 1, "AP75": 1, "miou": 0.8}),
        # No other object: P' is V, and the empty regions under others agree.
        ((0, 8), "savos_fishbowl_unfiltered", {"metric1_full": 0.5, "metric2_occ": 1}),
    ],
)
def test_evaluate_completions_hand_computed(tmp_path, columns, protocol, expected):
    predictions = [{"gt_id": 1, "amodal_segm": bar(*columns)}]
    report = evaluate_completions(image_dataset(tmp_path, HALF), predictions, protocols=[protocol])
    values = report.protocols[protocol].values
    assert {key: values[key] for key in expected} == pytest.approx(expected, abs=1e-5)


def test_evaluate_completions_eoras_leaves_perfect_hidden_parts_out(tmp_path):
    """In single precision 60 / (60 + 1e-6) is 1; 20 / (20 + 1e-6) is not."""
    large = thing(1, amodal_segm=bar(0, 20))
    for one, columns, expected in ((large, 20, -1), (HALF, 10, 1)):
        predictions = [{"gt_id": 1, "amodal_segm": bar(0, columns)}]
        truth = image_dataset(tmp_path, one)
        scores = evaluate_completions(truth, predictions, protocols=["eoras"]).protocols["eoras"]
        assert scores.values == pytest.approx({"full": 1, "occ": expected}, abs=1e-5)


def test_evaluate_completions_savos_uses_the_prediction_under_other_objects_only(tmp_path):
    nearer = thing(2, amodal_segm=bar(5, 8), visible_segm=bar(5, 8))
    predictions = [
        {"gt_id": 1, "amodal_segm": bar(6, 20)},
        {"gt_id": 2, "amodal_segm": bar(5, 8)},
    ]
    name = "savos_fishbowl_filtered"
    truth = image_dataset(tmp_path, HALF, nearer)
    assert evaluate_completions(truth, predictions, protocols=[name]).percent()[name] == {}
    name = "savos_fishbowl_unfiltered"
    values = evaluate_completions(truth, predictions, protocols=[name]).protocols[name].values
    # Object 1: V 0..5 and P under the other 6..8 of A 0..10; hidden there 2 of 3. Object 2: exact.
    assert values["metric2_full"] == pytest.approx((0.7 + 1) / 2)
    assert values["metric2_occ"] == pytest.approx((2 / 3 + 1) / 2)


def test_evaluate_completions_protocols_disagree_about_unoccluded_frames(tmp_path):
    seen = track(1, segmentations=tube(bar(0, 10)), amodal_segmentations=tube(bar(0, 10)))
    hidden = track(2, segmentations=tube(bar(11, 13)), amodal_segmentations=tube(bar(11, 15)))
    truth = dataset(tmp_path, seen, hidden)
    predictions = [
        {"gt_id": 1, "amodal_segmentations": tube(bar(0, 10))},
        {"gt_id": 2, "amodal_segmentations": tube(bar(11, 14))},
    ]
    report = evaluate_completions(truth, predictions, protocols=["c2f_image", "c2f_video"])
    occluded = {name: scores.values["occ"] for name, scores in report.protocols.items()}
    assert occluded == pytest.approx({"c2f_image": 0.5, "c2f_video": 0.25}, abs=1e-5)


def test_evaluate_completions_top_k_takes_the_best_of_each_frame(tmp_path):
    true = track(1, segmentations=tube(bar(0, 5)), amodal_segmentations=tube(bar(0, 10)))
    first = tube(bar(0, 10), bar(0, 5), bar(0, 5))
    second = tube(bar(0, 5), bar(0, 10), bar(0, 5))
    predictions = [
        {"gt_id": 1, "sample": k, "amodal_segmentations": masks}
        for k, masks in enumerate((first, second))
    ]
    report = evaluate_completions(dataset(tmp_path, true), predictions)
    best = report.protocols["diffusion_vas"].values["miou"]
    assert best == pytest.approx((1 + 1 + 0.5) / 3, abs=1e-5)
    assert report.protocols["c2f_image"].values["full"] == pytest.approx(2 / 3, abs=1e-5)
    assert report.counts["samples per object"] == 2
    assert report.notes == ["c2f_image: only the first of 2 samples is judged"]


def test_evaluate_completions_missing_predictions_are_noted_and_empty(tmp_path):
    truth = image_dataset(tmp_path, HALF, thing(2, amodal_segm=bar(12, 14), visible_segm=None))
    report = evaluate_completions(truth, [{"gt_id": 1, "amodal_segm": bar(0, 10)}])
    assert report.protocols["c2f_image"].values["full"] == pytest.approx(0.5)
    assert "1 of 2 true objects have no prediction and count as empty masks (ids 2)" in report.notes


def test_evaluate_completions_of_nothing_is_undefined(tmp_path):
    report = evaluate_completions(image_dataset(tmp_path), [], protocols=list(VARIANTS))
    assert set(map(len, report.percent().values())) == {0}


def test_evaluate_completions_default_shows_two_named_protocols(tmp_path):
    report = evaluate_completions(
        image_dataset(tmp_path, HALF), [{"gt_id": 1, "amodal_segm": bar(0, 8)}]
    )
    assert list(report.protocols) == list(DEFAULT_PROTOCOLS)
    for name in DEFAULT_PROTOCOLS:
        assert f"\n{name} " in str(report)
    assert json.loads(report.to_json(tmp_path / "out.json")) == report.to_dict()
    lines = list(csv.DictReader(io.StringIO(report.to_csv(tmp_path / "out.csv"))))
    values = {(line["protocol"], line["metric"]): float(line["value"]) for line in lines}
    assert {line["task"] for line in lines} == {"completion"}
    assert {protocol for protocol, _ in values} == set(DEFAULT_PROTOCOLS)
    assert values["c2f_image", "occ"] == pytest.approx(60, abs=1e-4)
    assert ("diffusion_vas", "occ") not in values


def test_evaluate_completions_unknown_protocol_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"protocols of \['c2f_image'.*got \['miou'\]"):
        evaluate_completions(image_dataset(tmp_path, HALF), [], protocols=["miou"])
