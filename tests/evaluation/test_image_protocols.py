from __future__ import annotations

import contextlib
import csv
import io
import json
import random

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal2.evaluation.image_protocols import ImageOptions, evaluate_images
from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import decode_rle, encode_mask, rle_area, rle_box
from tests.conftest import golden_files
from tests.structures.toy_images import found, image_content, image_dataset, thing
from tests.structures.toy_videos import CRAB, bar, write


def golden(folder, name: str):
    return json.loads((folder / name).read_text())


def assert_stats(scores, expected: dict) -> None:
    assert set(scores.stats) == set(expected)
    for name, value in expected.items():
        assert scores.stats[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("key", ["image"])
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_images_golden_coco(folder, key):
    expected = golden(folder, "expected.json")[key]
    truth = read_image_json(folder / "gt_image.json")
    options = ImageOptions(class_agnostic=True, occlusion=("cocoa",))
    rows = evaluate_images(truth, golden(folder, "pred_image.json"), options=options).rows
    for name in ("amodal", "visible", "amodal_bbox", "amodal_class_agnostic"):
        assert_stats(rows[name], expected[name])
    for key, row in (
        ("amodal_by_occlusion", "amodal"),
        ("amodal_class_agnostic_by_occlusion", "amodal_class_agnostic"),
    ):
        for name, stats in expected[key].items():
            assert_stats(rows[f"{row}/cocoa/{name}"], stats)
    names = {str(entry["id"]): entry["name"] for entry in truth.categories}
    for number, value in expected["amodal_per_category_AP"].items():
        assert rows["amodal"].per_category[names[number]] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("key", ["image"])
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_images_golden_cocoa(folder, key):
    expected = golden(folder, "expected.json")[key]["cocoa_amodalapi"]
    truth = read_image_json(folder / "gt_image.json")
    report = evaluate_images(truth, golden(folder, "pred_image.json"), protocol="cocoa")
    for name in ("all", "none", "partial", "heavy"):
        assert_stats(report.rows[f"amodal/{name}"], expected[name])


@pytest.mark.parametrize(
    ("protocol", "rows", "visible_rows"),
    [
        (
            "coco",
            ["amodal", "invisible", "amodal_bbox", "invisible_bbox"],
            ["visible", "visible_bbox"],
        ),
        ("cocoa", ["amodal/all"], ["visible/all"]),
        ("kins", ["Det", "Amodal"], ["Inmodal"]),
    ],
)
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_images_golden_truth_fed_back_is_perfect(folder, protocol, rows, visible_rows):
    truth = read_image_json(folder / "gt_image.json")
    back = []
    for record in truth.annotations:
        record["iscrowd"] = 0
        back.append({**record, "bbox": record["amodal_bbox"], "score": 0.5})
    # A fully hidden object has no visible pixels to predict: a false positive among visible masks.
    seen = [record for record in back if record["visible_segm"]]
    for records, names in ((back, rows), (seen, visible_rows)):
        report = evaluate_images(truth, records, protocol=protocol)
        for name in names:
            found_back = report.rows[name].percent()
            assert (found_back["AP"], found_back["AR100"]) == pytest.approx((100, 100)), name


@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_images_golden_order_of_images_does_not_matter(folder, tmp_path):
    data, predictions = golden(folder, "gt_image.json"), golden(folder, "pred_image.json")
    before = evaluate_images(read_image_json(folder / "gt_image.json"), predictions)
    order = [image["id"] for image in data["images"]]
    random.shuffle(order)
    data["images"].sort(key=lambda image: order.index(image["id"]))
    for records in (data["annotations"], predictions):
        records.sort(key=lambda record: order.index(record["image_id"]))
    after = evaluate_images(read_image_json(write(tmp_path, data)), predictions)
    assert before.rows == after.rows


def test_evaluate_images_invisible_equals_coco_on_the_hidden_parts(tmp_path):
    """Independent formulation: decoded pixels and pycocotools."""
    data, predictions = random_images(np.random.default_rng(0))
    truth = read_image_json(write(tmp_path, data))
    rows = evaluate_images(truth, predictions).rows
    assert_stats(rows["invisible"], coco_stats(tmp_path, data, predictions, "segm"))
    expected = coco_stats(tmp_path, data, predictions, "bbox")
    assert_stats(rows["invisible_bbox"], expected)
    assert 0.1 < expected["AP"] < 0.9


def coco_stats(folder, data: dict, predictions: list[dict], kind: str) -> dict:
    """Return the 12 numbers of pycocotools on amodal and not visible."""
    hidden_truth = [as_hidden(record, "segm") for record in data["annotations"]]
    hidden = [as_hidden(record, kind) for record in predictions]
    content = {**data, "annotations": [record for record in hidden_truth if record]}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(write(folder, content))
        run = COCOeval(coco, coco.loadRes([record for record in hidden if record]), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    names = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()
    return dict(zip(names, run.stats.tolist(), strict=True))


def as_hidden(record: dict, kind: str) -> dict | None:
    mask = decode_rle(record["amodal_segm"]) & ~decode_rle(record["visible_segm"])
    rle = encode_mask(mask)
    if not mask.any():
        return None
    kept = {key: record[key] for key in ("image_id", "category_id", "score", "id") if key in record}
    boxes = {"bbox": list(rle_box(rle))} if kind == "bbox" or "id" in record else {}
    masks = {} if kind == "bbox" else {"segmentation": rle, "area": rle_area(rle), "iscrowd": 0}
    return {**kept, **boxes, **masks}


def random_images(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """Return images with partly hidden boxes, and shifted boxes with many equal scores."""
    data = image_content(images=6)
    predictions = []
    for image in data["images"]:
        image.update(height=60, width=80)
        for _ in range(8):
            y, x, h, w = rng.integers((0, 0, 12, 12), (20, 30, 40, 50))
            masks = np.zeros((2, 60, 80), dtype=bool)
            masks[0, y : y + h, x : x + w] = True
            masks[1, y : y + h, x : x + int(rng.integers(1, w + 1))] = True
            number, category = len(data["annotations"]) + 1, int(rng.choice([3, 7]))
            data["annotations"].append(thing(number, image["id"], category, **encoded(masks)))
            for _ in range(2):
                moved = np.roll(masks, rng.integers(-2, 3, 2), axis=(1, 2))
                score = float(rng.integers(1, 6)) / 5
                predictions.append(found(score, image["id"], category, **encoded(moved)))
    return data, predictions


def encoded(masks: np.ndarray) -> dict:
    return {"amodal_segm": encode_mask(masks[0]), "visible_segm": encode_mask(masks[1])}


BOTH = {"amodal_segm": bar(0, 10), "visible_segm": bar(0, 5)}


def test_evaluate_images_occluder_equals_coco_on_the_given_masks(tmp_path):
    """Independent formulation: pycocotools on the objects that something lies over."""
    data, predictions = random_images(np.random.default_rng(1))
    nothing = encode_mask(np.zeros((60, 80), dtype=bool))
    for record in (*data["annotations"], *predictions):
        hidden = decode_rle(record["amodal_segm"]) & ~decode_rle(record["visible_segm"])
        # What lies over the object: its hidden part, grown to the right.
        over = hidden | np.roll(hidden, 2, axis=1)
        record["occluder_segm"] = encode_mask(over) if over.any() else None
    without = data["annotations"][0]
    without["occluder_segm"] = None
    truth = write(tmp_path, data)
    rows = evaluate_images(read_image_json(truth), predictions).rows
    for record in (*data["annotations"], *predictions):
        # The other reference computes the hidden part, here all of the mask.
        record.update(amodal_segm=record["occluder_segm"] or nothing, visible_segm=nothing)
    expected = coco_stats(tmp_path, data, predictions, "segm")
    assert_stats(rows["occluder"], expected)
    assert_stats(rows["occluder_bbox"], coco_stats(tmp_path, data, predictions, "bbox"))
    assert 0.1 < expected["AP"] < 0.9


def test_evaluate_images_occluder_is_not_predicted_and_never_zero(tmp_path):
    truth = image_dataset(tmp_path, thing(1, occluder_segm=bar(5, 10)), thing(2, 2), images=2)
    report = evaluate_images(truth, [found(0.9, **BOTH)])
    assert "occluder" not in report.rows
    assert report.absent == dict.fromkeys(["occluder", "occluder_bbox"], "not predicted")
    given = [found(0.9, occluder_segm=bar(5, 10), **BOTH)]
    assert evaluate_images(truth, given).rows["occluder"].percent()["AP"] == pytest.approx(100)
    report = evaluate_images(image_dataset(tmp_path, thing(1)), given)
    assert report.absent["occluder"] == "not in the ground truth"


@pytest.mark.parametrize("key", ["amodal_segm", "visible_segm"])
def test_evaluate_images_unpredicted_kind_is_absent_and_never_zero(tmp_path, key):
    report = evaluate_images(image_dataset(tmp_path, thing(1)), [found(0.9, **{key: BOTH[key]})])
    own, other = ("amodal", "visible") if key == "amodal_segm" else ("visible", "amodal")
    assert report.rows[own].percent()["AP"] == pytest.approx(100)
    assert list(report.rows) == [own, f"{own}_bbox"]
    assert report.absent == dict.fromkeys(
        [other, "invisible", f"{other}_bbox", "invisible_bbox"], "not predicted"
    )
    assert f"{other}: not predicted" in str(report)


def test_evaluate_images_kind_that_the_truth_lacks_is_absent(tmp_path):
    record = thing(1)
    del record["visible_segm"]
    options = ImageOptions(occlusion=("cocoa",))
    report = evaluate_images(image_dataset(tmp_path, record), [found(0.9, **BOTH)], options=options)
    assert list(report.rows) == ["amodal", "amodal_bbox"]
    assert report.absent["visible"] == "not in the ground truth"
    assert report.absent["amodal/cocoa"] == "no occlusion rates in the ground truth"


def test_evaluate_images_without_predictions_scores_zero(tmp_path, caplog):
    report = evaluate_images(image_dataset(tmp_path, thing(1)), [])
    assert {row.stats["AP"] for row in report.rows.values()} == {0.0}
    assert "no predictions for 1 true objects" in caplog.text


def test_evaluate_images_fully_hidden_object_counts_for_amodal_only(tmp_path):
    truth = image_dataset(tmp_path, thing(1, visible_segm=None), thing(2, 2), images=2)
    report = evaluate_images(truth, [found(0.9, 2, **BOTH)])
    assert report.rows["amodal"].percent()["AR1"] == pytest.approx(50)
    assert report.rows["visible"].percent()["AR1"] == pytest.approx(100)
    assert "visible: 1 true objects without such pixels left out" in report.notes


def test_evaluate_images_empty_masks_are_noted_false_positives(tmp_path):
    empty = found(0.95, amodal_segm=bar(0, 10), visible_segm=None)
    report = evaluate_images(image_dataset(tmp_path, thing(1)), [empty, found(0.9, **BOTH)])
    assert report.rows["visible"].percent()["AP"] == pytest.approx(50)
    assert "1 empty visible masks among the predictions (false positives)" in report.notes


def test_evaluate_images_invisible_leaves_unoccluded_out_on_both_sides(tmp_path):
    whole = {"amodal_segm": bar(12, 18), "visible_segm": bar(12, 18)}
    truth = image_dataset(tmp_path, thing(1), thing(2, **whole))
    report = evaluate_images(truth, [found(0.95, **whole), found(0.9, **BOTH)])
    assert report.rows["invisible"].percent()["AP"] == pytest.approx(100)


def test_evaluate_images_few_hidden_pixels_can_be_ignored(tmp_path):
    small = {"amodal_segm": bar(12, 18), "visible_segm": bar(12, 17)}
    truth = image_dataset(tmp_path, thing(1), thing(2, **small))
    predictions = [found(0.9, **BOTH)]
    plain = evaluate_images(truth, predictions).rows["invisible"]
    options = ImageOptions(min_invisible_px=5)
    ignoring = evaluate_images(truth, predictions, options=options).rows["invisible"]
    assert (plain.percent()["AR1"], ignoring.percent()["AR1"]) == pytest.approx((50, 100))


@pytest.mark.parametrize(
    ("rule", "columns", "bins"),
    [
        pytest.param("cocoa", 10, {"none"}, id="cocoa-none"),
        pytest.param("cocoa", 8, {"partial"}, id="cocoa-partial"),
        pytest.param("cocoa", 5, {"heavy"}, id="cocoa-heavy"),
        pytest.param("tao_amodal", 9, {"none"}, id="tao-none"),
        pytest.param("tao_amodal", 8, {"none", "partial", "hp"}, id="tao-both-ends"),
        pytest.param("tao_amodal", 1, {"heavy", "partial", "hp"}, id="tao-heavy"),
        pytest.param("a2vis", 5, {"lt50"}, id="a2vis-half"),
        pytest.param("a2vis", 4, {"gt50"}, id="a2vis-more"),
        pytest.param("fishbowl", 9, set(), id="fishbowl-edge"),
        pytest.param("fishbowl", 8, {"o10_70"}, id="fishbowl-inside"),
        pytest.param("fishbowl", 3, set(), id="fishbowl-upper-edge"),
        pytest.param("vrsp", 8, {"o15"}, id="vrsp-15"),
        pytest.param("vrsp", 6, {"o15", "o25", "o40"}, id="vrsp-cumulative"),
    ],
)
def test_evaluate_images_occlusion_bins(tmp_path, rule, columns, bins):
    masks = {"amodal_segm": bar(0, 10), "visible_segm": bar(0, columns)}
    options = ImageOptions(occlusion=(rule,))
    rows = evaluate_images(
        image_dataset(tmp_path, thing(1, **masks)), [found(0.9, **masks)], options=options
    ).rows
    prefix = f"amodal/{rule}/"
    defined = {
        n.removeprefix(prefix) for n, r in rows.items() if n.startswith(prefix) and r.percent()
    }
    assert defined == bins


@pytest.mark.parametrize(("rule", "expected"), [("cocoa", 50), ("vrsp", 100)])
def test_evaluate_images_stray_unoccluded_prediction_counts_by_the_rule(tmp_path, rule, expected):
    stray = {"amodal_segm": bar(14, 20), "visible_segm": bar(14, 20)}
    truth = image_dataset(tmp_path, thing(1))
    options = ImageOptions(occlusion=(rule,))
    rows = evaluate_images(truth, [found(0.95, **stray), found(0.9, **BOTH)], options=options).rows
    name = {"cocoa": "heavy", "vrsp": "o15"}[rule]
    assert rows[f"amodal/{rule}/{name}"].percent()["AP"] == pytest.approx(expected)


def test_evaluate_images_ratio_rule_needs_both_masks(tmp_path):
    options = ImageOptions(occlusion=("vrsp",))
    report = evaluate_images(
        image_dataset(tmp_path, thing(1)), [found(0.9, amodal_segm=bar(0, 10))], options=options
    )
    assert report.absent["amodal/vrsp"] == "not predicted: needs amodal and visible masks"


def test_evaluate_images_class_agnostic_ignores_the_class(tmp_path):
    options = ImageOptions(class_agnostic=True)
    wrong = [found(0.9, category=CRAB, **BOTH)]
    report = evaluate_images(image_dataset(tmp_path, thing(1)), wrong, options=options)
    assert report.rows["amodal"].percent()["AP"] == 0
    assert report.rows["amodal_class_agnostic"].percent()["AP"] == pytest.approx(100)
    assert any("no predicted category ([7]) occurs" in note for note in report.notes)


@pytest.mark.parametrize(("stuff", "expected"), [("both", 50), ("things", 100), ("stuff", 0)])
def test_evaluate_images_cocoa_things_and_stuff(tmp_path, stuff, expected):
    other = {"amodal_segm": bar(12, 18), "visible_segm": bar(12, 18)}
    truth = image_dataset(tmp_path, thing(1), thing(2, isStuff=1, **other))
    options = ImageOptions(stuff=stuff)
    rows = evaluate_images(truth, [found(0.9, **BOTH)], protocol="cocoa", options=options).rows
    assert rows["amodal/all"].percent()["AR1000"] == pytest.approx(expected)


def test_evaluate_images_cocoa_counts_images_without_predictions(tmp_path):
    truth = image_dataset(tmp_path, thing(1), thing(2, 2), images=2)
    report = evaluate_images(truth, [found(0.9, **BOTH)], protocol="cocoa")
    assert report.rows["amodal/all"].percent()["AR1000"] == pytest.approx(50)
    assert "1 images with true objects have no predictions" in report.notes


def test_evaluate_images_kins_has_the_three_numbers_and_says_what_differs(tmp_path):
    report = evaluate_images(
        image_dataset(tmp_path, thing(1)), [found(0.9, bbox=[0, 0, 10, 4], **BOTH)], protocol="kins"
    )
    assert {name: row.percent()["AP"] for name, row in report.rows.items()} == pytest.approx(
        {"Det": 100, "Amodal": 100, "Inmodal": 100}
    )
    assert "category ids [3, 7] are not those of KINS 2019 or 2020" in report.notes
    assert "1 images, the KINS test set has 7517" in report.notes


def test_evaluate_images_stray_box_does_not_change_the_size(tmp_path):
    boxes = [found(0.9, bbox=[0, 0, 2000, 2000], **BOTH)]
    rows = evaluate_images(image_dataset(tmp_path, thing(1)), boxes).rows
    assert rows["amodal"].percent()["APs"] == pytest.approx(100)


def test_image_report_csv_has_one_number_per_line(tmp_path):
    report = evaluate_images(image_dataset(tmp_path, thing(1)), [found(0.9, **BOTH)])
    text = report.to_csv(tmp_path / "out.csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert {line["row"] for line in lines} == set(report.rows)
    assert {(line["task"], line["protocol"]) for line in lines} == {("image", "coco")}
    values = {tuple(line.values())[2:6]: float(line["value"]) for line in lines}
    assert values["amodal", "mean", "", "AP"] == pytest.approx(100)
    assert values["amodal", "category", "fish", "AP"] == pytest.approx(100)
    assert ("amodal", "mean", "", "APl") not in values
    assert (tmp_path / "out.csv").read_text() == text


def test_image_report_json_and_table_name_the_protocol(tmp_path):
    report = evaluate_images(image_dataset(tmp_path, thing(1)), [found(0.9, **BOTH)])
    assert json.loads(report.to_json(tmp_path / "out.json")) == report.to_dict()
    assert json.loads((tmp_path / "out.json").read_text())["protocol"] == "coco"
    assert str(report).startswith("protocol: coco\n1 images, 1 true objects, 1 predictions\n")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ImageOptions(occlusion=("x",)), r"rules of \['a2vis', 'cocoa'.*got 'x'"),
        (lambda: ImageOptions(stuff="x"), "'things' or 'stuff', got 'x'"),
        (lambda: evaluate_images(None, [], protocol="x"), r"\['coco', 'cocoa', 'kins'\], got 'x'"),
    ],
)
def test_evaluate_images_unknown_names_are_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()
