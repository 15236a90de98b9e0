"""Ground truth fed back as predictions scores 100 in every row and every metric of all reports.

The toy has one object per image or video, so that one prediction per image is enough (AR1), of all
sizes and in all occlusion bins; several objects, for which AR1 is below 100, are in the golden
files, see ``test_*_golden_truth_fed_back_is_perfect`` beside this file.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from amodal2.evaluation.completion import evaluate_completions
from amodal2.evaluation.completion_variants import VARIANTS
from amodal2.evaluation.image_occlusion import OCCLUSION_RULES
from amodal2.evaluation.image_protocols import PROTOCOLS, ImageOptions, evaluate_images
from amodal2.evaluation.report import TRACKING_FRACTIONS
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import encode_mask
from amodal2.structures.video_json import read_video_json

SIZE = (300, 400)
WIDTHS = {"small": 30, "medium": 80, "large": 300}
"""Sides of the objects: small, medium and large to COCO and, but for 80, to YTVIS as well."""
HIDDEN = (0.0, 0.05, 0.2, 0.3, 0.6, 0.95)
"""Hidden shares: one at least in every bin of every rule."""
LENGTH = 3
SCORE = 0.5


def rectangle(x0: float, x1: float, height: int) -> dict:
    mask = np.zeros(SIZE, dtype=bool)
    mask[:height, round(x0) : round(x1)] = True
    return encode_mask(mask)


def pairs() -> list[tuple[dict, dict]]:
    """Return amodal and visible masks."""
    return [
        (rectangle(0, side, side), rectangle(side * hidden, side, side))
        for side in (*WIDTHS.values(), 200)
        for hidden in HIDDEN
    ]


def entry(number: int) -> dict:
    return {"id": number, "category_id": 1 + number % 2, "iscrowd": 0}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    file = tmp_path_factory.mktemp("images") / "gt.json"
    objects = [
        entry(i) | {"image_id": i, "amodal_segm": amodal, "visible_segm": visible, "isStuff": 0}
        for i, (amodal, visible) in enumerate(pairs(), start=1)
    ]
    scenes = [
        {"id": one["id"], "height": SIZE[0], "width": SIZE[1], "file_name": f"{one['id']}.png"}
        for one in objects
    ]
    return write(file, "images", scenes, objects)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    file = tmp_path_factory.mktemp("videos") / "gt.json"
    tracks = [
        entry(i)
        | {"video_id": i, "segmentations": [visible] * LENGTH}
        | {"amodal_segmentations": [amodal] * LENGTH}
        for i, (amodal, visible) in enumerate(pairs(), start=1)
    ]
    scenes = [
        {"id": one["id"], "height": SIZE[0], "width": SIZE[1], "length": LENGTH}
        | {"file_names": [f"{one['id']}/{t}.png" for t in range(LENGTH)]}
        for one in tracks
    ]
    return write(file, "videos", scenes, tracks)


def write(file, kind, scenes, records):
    categories = [{"id": 1, "name": "crab"}, {"id": 2, "name": "fish"}]
    content = {kind: scenes, "categories": categories, "annotations": records}
    file.write_text(json.dumps(content))
    return (read_image_json if kind == "images" else read_video_json)(file)


def back(dataset) -> list[dict]:
    return [{**record, "score": SCORE} for record in dataset.annotations]


def assert_perfect(percent: dict[str, float], row: str) -> None:
    assert percent == {name: pytest.approx(100) for name in percent}, row


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("boxes", ["stated", "measured"])
def test_image_truth_fed_back_scores_100_in_every_row(images, protocol, boxes):
    records = back(images)
    if boxes == "stated":
        for record in records:
            record["bbox"] = record["amodal_bbox"]
    options = ImageOptions(class_agnostic=True, occlusion=tuple(OCCLUSION_RULES))
    # What is in the open has no invisible part; in an image of its own it counts for nothing.
    report = evaluate_images(images, records, protocol=protocol, options=options)
    assert report.absent == {}
    rows = report.percent()
    kinds = ["amodal", "visible", "invisible"]
    bins = [f"{rule}/{name}" for rule, one in OCCLUSION_RULES.items() for name in one.bins]
    expected = {
        "coco": [
            f"{kind}{box}{agnostic}{part}"
            for kind in kinds
            for box in ("", "_bbox")
            for agnostic in ("", "_class_agnostic")
            for part in ("", *(f"/{name}" for name in bins))
        ],
        "cocoa": [
            f"{kind}/{part}" for kind in kinds[:2] for part in ("all", "none", "partial", "heavy")
        ],
        "kins": ["Det", "Amodal", "Inmodal"],
    }
    assert set(rows) == set(expected[protocol])
    for row, percent in rows.items():
        if row.startswith("invisible") and row.endswith("cocoa/none"):
            assert percent == {}, row  # nothing of such an object is hidden
            continue
        assert {"AP", "AP50", "AP75", "AR1", "AR10", "AR100"} <= set(percent), row
        assert_perfect(percent, row)
        assert_perfect(report.rows[row].percent() | report.rows[row].to_dict()["per_category"], row)
    if protocol == "coco":
        assert {"APs", "APm", "APl", "ARs", "ARm", "ARl"} <= set(rows["amodal"])


def test_video_truth_fed_back_scores_100_in_every_row(videos):
    report = evaluate_video_tracks(
        videos,
        back(videos),
        metrics=("ap", "hota"),
        class_agnostic=True,
        occlusion_bins=True,
        boxes=True,
        score_threshold=SCORE,
    )
    plain = ["visible", "amodal", "amodal_box"]
    agnostic = [f"{row}_class_agnostic" for row in plain]
    split = [f"{kind}_{side}" for kind in ("visible", "amodal") for side in ("lt50", "gt50")]
    assert set(report.rows) == {*plain, *agnostic, *split}
    for row, scores in report.rows.items():
        percent = scores.percent()
        assert {"AP", "AP50", "AP75", "AR1", "AR10", "AR100"} <= set(percent), row
        assert_perfect(percent | scores.to_dict()["per_category"], row)
    assert {"APs", "APm", "APl", "ARs", "ARm", "ARl"} <= set(report.rows["amodal"].percent())
    split = [f"{row}_{part}" for row in plain for part in ("lt50", "gt50")]
    assert set(report.tracking) == {*plain, *agnostic, *split}
    for row, tracking in report.tracking.items():
        every = [*tracking.averages.values(), *tracking.per_category.values()]
        assert len(every) == (1 if row in agnostic else 5), row
        for stats in every:
            fractions = {name: 100 * stats[name] for name in TRACKING_FRACTIONS}
            assert_perfect(fractions, row)
            assert (stats["IDSW"], stats["Frag"], stats["CLR_FP"], stats["CLR_FN"]) == (0,) * 4


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Two tracks, each of which hides a part of the other, large enough to survive erosion."""
    file = tmp_path_factory.mktemp("crossed") / "gt.json"
    amodal = [np.zeros(SIZE, dtype=bool) for _ in range(2)]
    amodal[0][:80, :120], amodal[1][:80, 60:180] = True, True
    upper = np.zeros(SIZE, dtype=bool)
    upper[:40] = True
    visible = [amodal[0] & ~(amodal[1] & upper), amodal[1] & ~(amodal[0] & ~upper)]
    tracks = [
        entry(i + 1)
        | {"video_id": 1, "segmentations": [encode_mask(visible[i])] * 4}
        | {"amodal_segmentations": [encode_mask(amodal[i])] * 4}
        for i in range(2)
    ]
    names = [f"v/{t}.png" for t in range(4)]
    video = {"id": 1, "height": SIZE[0], "width": SIZE[1], "length": 4, "file_names": names}
    return write(file, "videos", [video], tracks)


def test_completion_truth_fed_back_scores_100_in_every_variant(crossed):
    """But where the official rule leaves values of exactly 1 out: there nothing is left."""
    key = "amodal_segmentations"
    records = [{"gt_id": one["id"], key: one[key]} for one in crossed.annotations]
    report = evaluate_completions(crossed, records, protocols=list(VARIANTS))
    left_out = {("eoras", "occ")} | {
        ("savos_kins_car", f"metric{number}_{part}")
        for number in (1, 2)
        for part in ("full", "occ")
    }
    assert set(report.protocols) == set(VARIANTS)
    for protocol, scores in report.protocols.items():
        for name, value in scores.values.items():
            expected = -1 if (protocol, name) in left_out else pytest.approx(1, abs=1e-6)
            assert value == expected, (protocol, name)
