"""TAO-Amodal against plain loops over dicts, written from the description of the rules."""

from __future__ import annotations

import json

import numpy as np
import pytest

from amodal2.evaluation.tao_amodal import TAO_PROTOCOLS, VISIBILITY_SPLITS, evaluate_tao
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import AnnotationError
from tests.conftest import golden_files
from tests.structures.toy_videos import bar, dataset, prediction, track, tube, write

THRESHOLDS = [round(0.5 + 0.05 * i, 2) for i in range(10)]
NAMES = {1: "cat", 3: "dog", 4: "eel"}
FREQUENCIES = {1: "f", 3: "r", 4: "c"}


def random_content(rng) -> dict:
    """Return videos whose image ids interleave, with boxes in and outside the frame."""
    videos, tracks = [], []
    for number, length in ((1, 9), (2, 7), (5, 3)):
        videos.append(
            {
                "id": number,
                "height": 100,
                "width": 120,
                "length": length,
                "file_names": [f"v{number}/{t}.jpg" for t in range(length)],
                "image_ids": [100 + 10 * t + number for t in range(length)],
                "neg_category_ids": [[], [3], [1, 4]][len(videos)],
                "not_exhaustive_category_ids": [[3], [], [1]][len(videos)],
            }
        )
        for category in (1, 1, 3, 1, 3):
            start = int(rng.integers(0, length // 2))
            box = rng.uniform((-20, -20, 8, 8), (90, 70, 70, 60))
            lists = {key: [None] * length for key in ("amodal_bboxes", "visibilities", "oof")}
            for t in range(start, length):
                lists["amodal_bboxes"][t] = (box + rng.normal(0, 1, 4) * (1, 1, 0, 0)).tolist()
                lists["visibilities"][t] = float(rng.choice([0, 0.1, 0.5, 0.8, 1.0]))
                lists["oof"][t] = bool(rng.random() < 0.3)
            tracks.append(
                {
                    "id": len(tracks) + 1,
                    "video_id": number,
                    "category_id": category,
                    "segmentations": [None] * length,
                    "amodal_bboxes": lists["amodal_bboxes"],
                    "visibilities": lists["visibilities"],
                    "out_of_frame": lists["oof"],
                }
            )
    categories = [{"id": k, "name": name, "frequency": FREQUENCIES[k]} for k, name in NAMES.items()]
    return {"videos": videos, "categories": categories, "annotations": tracks}


def random_boxes(rng, data: dict) -> list[dict]:
    """Return records of boxes: shifted true ones and others, with many equal scores."""
    records = []
    for video in data["videos"]:
        own = [one for one in data["annotations"] if one["video_id"] == video["id"]]
        for number in range(14):
            true = own[number % len(own)]
            category = int(true["category_id"] if rng.random() < 0.8 else rng.choice(list(NAMES)))
            shift = rng.normal(0, 3, 4)
            base = rng.uniform((0, 0, 8, 8), (60, 60, 68, 68))
            for t, image in enumerate(video["image_ids"]):
                box = true["amodal_bboxes"][t]
                if rng.random() < 0.15 or (box is None and rng.random() < 0.7):
                    continue
                box = base if box is None or number > 10 else np.array(box) + shift
                records.append(
                    {
                        "image_id": image,
                        "category_id": category,
                        "track_id": number,
                        "bbox": [*box[:2].tolist(), *np.maximum(box[2:], 1).tolist()],
                        "score": float(rng.integers(1, 6)) / 10,
                    }
                )
    return records


def frame_objects(data: dict) -> list[dict]:
    """Return the true boxes as records."""
    found = []
    for one in data["annotations"]:
        video = next(v for v in data["videos"] if v["id"] == one["video_id"])
        for t, box in enumerate(one["amodal_bboxes"]):
            if box is not None:
                found.append(
                    {
                        "image_id": video["image_ids"][t],
                        "video_id": video["id"],
                        "category_id": one["category_id"],
                        "track_id": one["id"],
                        "bbox": box,
                        "v": one["visibilities"][t],
                        "oof": one["out_of_frame"][t],
                    }
                )
    return found


def overlap(a: list[float], b: list[float]) -> tuple[float, float]:
    """Return intersection and union."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inner = max(w, 0) * max(h, 0)
    return inner, a[2] * a[3] + b[2] * b[3] - inner


def tracks_of(boxes: list[dict]) -> list[dict]:
    """Join boxes into tracks."""
    joined: dict[tuple, dict] = {}
    for one in boxes:
        head = {key: one[key] for key in ("video_id", "category_id")}
        new = joined.setdefault((one["video_id"], one["track_id"]), {**head, "frames": {}})
        new["frames"][one["image_id"]] = one
    for new in joined.values():
        frames = list(new["frames"].values())
        new["area"] = sum(f["bbox"][2] * f["bbox"][3] for f in frames) / len(frames)
        scores = [f.get("score", 0) for f in frames]
        new["score"] = scores[0] if len(set(scores)) == 1 else float(np.mean(scores))
    return list(joined.values())


def track_iou(a: dict, b: dict) -> float:
    inner = outer = 0.0
    for image in {*a["frames"], *b["frames"]}:
        boxes = [one["frames"][image]["bbox"] for one in (a, b) if image in one["frames"]]
        if len(boxes) == 2:
            i, u = overlap(*boxes)
            inner, outer = inner + i, outer + u
        else:
            outer += boxes[0][2] * boxes[0][3]
    return inner / outer


def of_cell(records: list[dict], category: int, cell: int) -> list[dict]:
    return [one for one in records if one["category_id"] == category and one["cell"] == cell]


def average_precision(truth, found, cells, iou, outside, lenient) -> dict:
    """Return the metrics of one split; cells are in their order."""
    precision, recall = {}, {}
    for category in NAMES:
        compared = []
        for cell in cells:
            own = sorted(of_cell(truth, category, cell), key=outside)
            dets = sorted(of_cell(found, category, cell), key=lambda d: -d["score"])
            compared.append((own, dets, [[iou(d, g) for g in own] for d in dets]))
        positives = sum(not outside(g) for own, _, _ in compared for g in own)
        for threshold in THRESHOLDS if positives else []:
            ranked = []
            for own, dets, values in compared:
                taken = set()
                for det, row in zip(dets, values, strict=True):
                    best, chosen = threshold, None
                    for index, g in enumerate(own):
                        if index in taken:
                            continue
                        if chosen is not None and outside(g) and not outside(own[chosen]):
                            break
                        if row[index] >= best:
                            best, chosen = row[index], index
                    if chosen is not None:
                        taken.add(chosen)
                        if not outside(own[chosen]):
                            ranked.append((det["score"], True))
                    elif not lenient(det):
                        ranked.append((det["score"], False))
            ranked.sort(key=lambda entry: -entry[0])
            right, points = 0, []
            for rank, (_, hit) in enumerate(ranked, start=1):
                right += hit
                points.append((right / positives, right / rank))
            curve = [
                max((p for r, p in points if r >= level), default=0.0)
                for level in np.linspace(0, 1, 101)
            ]
            precision[category, threshold] = np.mean(curve)
            recall[category, threshold] = points[-1][0] if points else 0.0
    if not precision:
        return {}
    by_letter = {
        f"AP{letter}": [v for (k, _), v in precision.items() if FREQUENCIES[k] == letter]
        for letter in "rcf"
    }
    return {
        "AP": np.mean(list(precision.values())),
        "AP50": np.mean([v for (_, t), v in precision.items() if t == 0.5]),
        "AP75": np.mean([v for (_, t), v in precision.items() if t == 0.75]),
        "AR300": np.mean(list(recall.values())),
        **{name: np.mean(values) for name, values in by_letter.items() if values},
    }


def federated(data: dict, truth: list[dict], found: list[dict]) -> list[dict]:
    """Leave out what was not annotated; cells are frames or videos."""
    videos = {video["id"]: video for video in data["videos"]}
    present = {(g["cell"], g["category_id"]) for g in truth}
    return [
        d
        for d in found
        if (d["cell"], d["category_id"]) in present
        or d["category_id"] in videos[d["video_id"]]["neg_category_ids"]
    ]


def oracle(data: dict, records: list[dict]) -> dict:
    """Return the metrics of every row."""
    video_of = {image: video["id"] for video in data["videos"] for image in video["image_ids"]}
    partial = {
        (video["id"], category)
        for video in data["videos"]
        for category in video["not_exhaustive_category_ids"]
    }

    def unpunished(d):
        return (d["video_id"], d["category_id"]) in partial

    truth = [{**one, "cell": one["image_id"]} for one in frame_objects(data)]
    found = [
        {**one, "cell": one["image_id"], "video_id": video_of[one["image_id"]]} for one in records
    ]
    images = sorted(video_of)

    def box_iou(d, g):
        inner, outer = overlap(d["bbox"], g["bbox"])
        return inner / outer

    rows = {}
    kept = federated(data, truth, found)
    splits = {"": lambda g: False, "/OOF": lambda g: not g["oof"]}
    for name, (low, high) in VISIBILITY_SPLITS.items():
        splits[f"/{name}"] = lambda g, low=low, high=high: not low <= g["v"] <= high
    for name, outside in splits.items():
        rows[f"amodal_box{name}"] = average_precision(
            truth, kept, images, box_iou, outside, unpunished
        )
    own = [{**one, "cell": one["video_id"]} for one in tracks_of(truth)]
    others = [{**one, "cell": one["video_id"]} for one in tracks_of(found)]
    kept = federated(data, own, others)
    videos = sorted(video["id"] for video in data["videos"])

    def hidden(g):
        return sum(frame["v"] < 0.8 for frame in g["frames"].values())

    def never(one):
        return False

    def area(low, high):
        return lambda one: not low <= one["area"] <= high

    def length(low, high):
        return lambda one: not low <= len(one["frames"]) <= high

    for name, outside, also in (
        ("", never, never),
        ("/HP", lambda g: hidden(g) <= 5, never),
        *((f"/{n}", area(*r), area(*r)) for n, r in
          (("area_small", (0, 1024)), ("area_medium", (1024, 9216)), ("area_large", (9216, 1e10)))),
        *((f"/{n}", length(*r), length(*r)) for n, r in
          (("time_short", (0, 3)), ("time_medium", (3, 10)), ("time_long", (10, 1e5)))),
    ):  # fmt: skip
        rows[f"amodal_track{name}"] = average_precision(
            own, kept, videos, track_iou, outside,
            lambda d, also=also: unpunished(d) or also(d),
        )  # fmt: skip
    return rows


def defined(reports) -> dict:
    return {
        name: {key: value for key, value in scores.stats.items() if value != -1}
        for report in reports.reports
        for name, scores in report.rows.items()
    }


@pytest.mark.parametrize("seed", range(2))
def test_evaluate_tao_equals_plain_loops(tmp_path, seed):
    rng = np.random.default_rng(seed)
    data = random_content(rng)
    records = random_boxes(rng, data)
    expected = oracle(data, records)
    found = defined(evaluate_tao(read_video_json(write(tmp_path, data)), records))
    assert set(found) == set(expected)
    for name, metrics in expected.items():
        assert found[name] == pytest.approx(metrics, abs=1e-9), name
    assert 0.02 < expected["amodal_track"]["AP"] < expected["amodal_box"]["AP50"] < 0.98
    assert expected["amodal_track/HP"]
    assert expected["amodal_box/OOF"]


@pytest.mark.parametrize("seed", range(2))
def test_evaluate_tao_tracks_as_boxes_score_the_same(tmp_path, seed):
    rng = np.random.default_rng(seed)
    data = random_content(rng)
    records = random_boxes(rng, data)
    for one in records:
        one["score"] = one["track_id"] / 20
    tubes: dict = {}
    for video in data["videos"]:
        for one in records:
            if one["image_id"] in video["image_ids"]:
                head = {"video_id": video["id"], **{k: one[k] for k in ("category_id", "score")}}
                new = tubes.setdefault((video["id"], one["track_id"]), head)
                boxes = new.setdefault("amodal_bboxes", [None] * video["length"])
                boxes[video["image_ids"].index(one["image_id"])] = one["bbox"]
    truth = read_video_json(write(tmp_path, data))
    assert defined(evaluate_tao(truth, list(tubes.values()))) == defined(
        evaluate_tao(truth, records)
    )


@pytest.mark.parametrize("key", ["tracking"])
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_tao_golden_track_ap(folder, key):
    expected = json.loads((folder / "expected.json").read_text())[key]["box_amodal_per_class_TAO"]
    predictions = json.loads((folder / "pred_video.json").read_text())
    for record in predictions:
        # TrackEval averages equal scores too, and its rounding breaks ties.
        frames = sum(box is not None for box in record["amodal_bboxes"])
        record["score"] = float(np.mean([record["score"]] * frames))
    report = evaluate_tao(read_video_json(folder / "gt_video.json"), predictions).reports[1]
    scores = report.rows["amodal_track"]
    assert scores.stats["AP"] == pytest.approx(expected["cls_comb_cls_av"]["TrackAP"], abs=1e-9)
    assert scores.stats["AR300"] == pytest.approx(expected["cls_comb_cls_av"]["TrackAR"], abs=1e-9)
    for name, value in scores.per_category.items():
        assert value == pytest.approx(expected[name]["TrackAP"], abs=1e-9)


@pytest.mark.parametrize("kind", TAO_PROTOCOLS.values())
@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_tao_golden_truth_fed_back_is_perfect(folder, kind):
    truth = read_video_json(folder / "gt_video.json")
    back = [dict(record, score=0.5) for record in truth.annotations]
    detection, tracking = evaluate_tao(truth, back, kind=kind).reports
    assert detection.rows[f"{kind}_box"].percent()["AP"] == pytest.approx(100)
    assert tracking.rows[f"{kind}_track"].percent()["AP"] == pytest.approx(100)
    assert tracking.rows[f"{kind}_track/HP"].percent()["AR300"] == pytest.approx(100)
    assert detection.absent == {f"{kind}_box/OOF": "no out_of_frame in the ground truth"}


def test_evaluate_tao_order_does_not_matter(tmp_path):
    rng = np.random.default_rng(9)
    data = random_content(rng)
    records = random_boxes(rng, data)
    for i, one in enumerate(records):
        one["score"] = i / len(records)
    before = defined(evaluate_tao(read_video_json(write(tmp_path, data)), records))
    for entries in (data["videos"], data["annotations"], data["categories"], records):
        rng.shuffle(entries)
    after = defined(evaluate_tao(read_video_json(write(tmp_path, data)), records))
    for name, metrics in before.items():
        assert after[name] == pytest.approx(metrics, abs=1e-12)


def test_evaluate_tao_counts_at_most_300_boxes_of_a_frame(tmp_path):
    data = random_content(np.random.default_rng(0))
    truth = read_video_json(write(tmp_path, data))
    one = {"image_id": 101, "category_id": 1, "bbox": [300, 300, 5, 5], "score": 0.9}
    best = {**one, "bbox": next(t["amodal_bboxes"][-1] for t in data["annotations"])}
    right = {**best, "image_id": data["videos"][0]["image_ids"][-1], "score": 0.5}
    for others, expected in ((299, True), (300, False)):
        crowd = [{**one, "image_id": right["image_id"]}] * others
        report = evaluate_tao(truth, [*crowd, right]).reports[0]
        assert (report.rows["amodal_box"].stats["AR300"] > 0) is expected


def test_evaluate_tao_says_what_is_absent(tmp_path):
    truth = dataset(tmp_path, track(1))
    boxes = {"bboxes": [[0, 0, 10, 4]] * 3}
    detection, tracking = evaluate_tao(truth, [prediction(0.5, **boxes)]).reports
    assert detection.absent == {"amodal_box": "not predicted"}
    assert tracking.absent == {"amodal_track": "not predicted"}
    detection, _ = evaluate_tao(truth, [prediction(0.5, **boxes)], kind="modal").reports
    assert detection.rows["modal_box"].percent()["AP"] == pytest.approx(100)
    assert detection.absent["modal_box/HP"] == "no visibilities in the ground truth"
    amodal = prediction(0.5, amodal_segmentations=tube(bar(0, 10)))
    detection, _ = evaluate_tao(truth, [amodal]).reports
    assert detection.absent == {"amodal_box": "not in the ground truth"}


def test_evaluate_tao_boxes_without_tracks_have_no_track_ap(tmp_path):
    data = random_content(np.random.default_rng(0))
    records = [
        {key: value for key, value in one.items() if key != "track_id"}
        for one in random_boxes(np.random.default_rng(0), data)
    ]
    detection, tracking = evaluate_tao(read_video_json(write(tmp_path, data)), records).reports
    assert tracking.rows == {}
    assert "no track_id" in tracking.absent["amodal_track"]
    assert "AR300" in str(detection)
    assert {number.task for number in detection.numbers()} == {"video"}


def test_evaluate_tao_without_predictions_scores_zero(tmp_path):
    truth = read_video_json(write(tmp_path, random_content(np.random.default_rng(0))))
    detection, tracking = evaluate_tao(truth, []).reports
    assert detection.rows["amodal_box"].percent()["AP"] == 0
    assert tracking.rows["amodal_track"].percent()["AR300"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 7}, r"one of the 19 image ids.*got 7 .*record 1\).*p\.json, image 7"),
        ({"bbox": [0, 0, 5]}, r"a box \[x, y, w, h\].*record 1"),
        ({"bbox": [0, 0, -5, 5]}, "the last two not negative"),
        ({"bbox": [0, float("nan"), 5, 5]}, "expected pixels"),
        ({"bbox": [0, 0, 5, 10**400]}, "expected pixels"),
        ({"score": None}, "finite number, got None"),
        ({"category_id": 9}, r"3 integer ids.*got 9"),
        ({"category_id": 3}, r"a track of one category with one box per frame.*key track_id"),
        ({"image_id": 101}, "one box per frame"),
        ({"track_id": "x"}, "expected an integer, got 'x'"),
    ],
)
def test_evaluate_tao_broken_box_is_named(tmp_path, change, message):
    truth = read_video_json(write(tmp_path, random_content(np.random.default_rng(0))))
    one = {"image_id": 101, "category_id": 1, "track_id": 4, "bbox": [0, 0, 5, 5], "score": 1}
    with pytest.raises(AnnotationError, match=message):
        evaluate_tao(truth, [one, {**one, "image_id": 111, **change}], file="p.json")


def test_evaluate_tao_unknown_kind_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"kind of \['amodal', 'modal'\], got 'x'"):
        evaluate_tao(dataset(tmp_path, track(1)), [], kind="x")
