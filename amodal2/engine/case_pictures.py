"""Pictures of the scenes that a report scores best and worst: picture, ground truth, prediction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from amodal2.evaluation.ap_details import APDetails
from amodal2.evaluation.completion_details import CompletionDetails
from amodal2.evaluation.completion_input import pair_completions
from amodal2.evaluation.html_report import Picture, Report
from amodal2.evaluation.image_predictions import check_image_predictions
from amodal2.evaluation.image_shapes import shape_iou
from amodal2.evaluation.prediction_files import video_name
from amodal2.evaluation.predictions import check_predictions
from amodal2.structures.frame_object import FrameObject
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM, ImageDataset
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.frame_source import Frame
from amodal2.utils.frames import open_frames, read_image
from amodal2.visualization.overlay import OverlayStyle, draw_overlay
from amodal2.visualization.panels import side_by_side

Dataset = VideoDataset | ImageDataset

CASES = 3
"""Best ones, and as many worst ones."""
LOW_SCORE = 0.5
"""Predictions below it are drawn only if the scene has more objects than others."""
PAIR_IOU = 0.5
"""A prediction shows a true object from this IoU on."""
_WIDTH_PX = 400


def case_pictures(
    dataset: Dataset, records: Iterable[Any], report: Report, root: Path
) -> list[Picture]:
    """Draw the best and worst scenes of the first row of a report, amodal masks before others.

    Args:
        dataset: the ground truth.
        records: the predictions that the report is about.
        report: with samplers.
        root: folder of the frames or images.

    Returns:
        list[Picture]: worst scenes first; none without a row that scores scenes.

    Raises:
        OSError: if a frame cannot be read.
    """
    rows = {
        key: one
        for key, one in report.samplers.items()
        if isinstance(one, APDetails | CompletionDetails)
    }
    if not rows:
        return []
    protocol, row = min(rows, key=lambda key: not key[1].startswith("amodal"))
    chosen = rows[protocol, row]
    scores = chosen.by_scene()
    order = sorted(scores, key=lambda scene: (scores[scene], scene))
    worst = order[:CASES]
    best = [scene for scene in order[-CASES:][::-1] if scene not in worst]
    metric = "AP" if isinstance(chosen, APDetails) else chosen.main_metric
    found = _found(dataset, records, isinstance(chosen, CompletionDetails))
    names = {entry["id"]: entry["name"] for entry in dataset.categories}
    # Amodal masks that are all there is are no hidden parts.
    whole = not any(record.get(key) for record in found for key in (VISIBLE_KEY, VISIBLE_SEGM))
    pictures = []
    for title, scenes in (("worst", worst), ("best", best)):
        for scene in scenes:
            place, frame, truth, predicted = _scene(dataset, found, scene, root)
            if isinstance(chosen, APDetails):  # completions are of known objects, in their order
                predicted = _paired(truth, predicted)
            caption = f"{title}: {place}, {row}: {metric} {scores[scene]:.2f} ({protocol})"
            pictures.append(Picture(caption, _draw(frame, truth, predicted, names, whole)))
    return pictures


def _found(dataset: Dataset, records: Iterable[Any], completion: bool) -> list[dict[str, Any]]:
    """Return checked predictions; completions get all but their masks from the truth."""
    if not completion:
        if isinstance(dataset, VideoDataset):
            return check_predictions(records, dataset)[0]
        return check_image_predictions(records, dataset)[0]
    paired, _ = pair_completions(dataset, records)
    key = AMODAL_KEY if isinstance(dataset, VideoDataset) else AMODAL_SEGM
    return [
        {
            **record,
            "score": 1.0,
            key: one.samples[0] if key == AMODAL_KEY else one.samples[0][0],
        }
        for record, one in zip(dataset.annotations, paired, strict=True)
    ]


def _scene(
    dataset: Dataset, found: list[dict[str, Any]], scene: int, root: Path
) -> tuple[str, Frame, list[FrameObject], list[FrameObject]]:
    """Return name, picture, true and predicted objects of an image, or of one frame of a video.

    The frame is the one in which most true objects are hidden in part.
    """
    video = isinstance(dataset, VideoDataset)
    key = "video_id" if video else "image_id"
    truth = [one for one in dataset.annotations if one[key] == scene]
    predicted = sorted((one for one in found if one[key] == scene), key=lambda one: -one["score"])
    predicted = [
        one for i, one in enumerate(predicted) if i < len(truth) or one["score"] >= LOW_SCORE
    ]
    if not isinstance(dataset, VideoDataset):
        entry = next(one for one in dataset.images if one["id"] == scene)
        picture = read_image(root / entry["file_name"])
        return entry["file_name"], picture, _objects(truth, None), _objects(predicted, None)
    entry = next(one for one in dataset.videos if one["id"] == scene)

    def hidden(frame: int) -> tuple[int, int]:
        objects = _objects(truth, frame)
        return sum(o.amodal is not None and o.amodal != o.visible for o in objects), len(objects)

    frame = max(range(entry["length"]), key=hidden)
    names = entry.get("file_names")
    with open_frames([root / name for name in names] if names else root / entry["file_name"]) as f:
        (picture,) = f.read([frame])
    place = f"video {video_name(entry)} (id {scene}), frame {frame}"
    return place, picture, _objects(truth, frame), _objects(predicted, frame)


def _paired(truth: list[FrameObject], predicted: list[FrameObject]) -> list[FrameObject]:
    """Give predictions the numbers, and so the colours, of the true objects that they show.

    In the order of their scores they take the free object of the highest IoU of .5 or more, of
    amodal masks where both have one.
    """
    free = {one.id: one for one in truth}
    numbered = []
    taken = max(free, default=-1) + 1
    for other, one in enumerate(predicted, start=taken):
        overlaps = {number: _overlap(one, true) for number, true in free.items()}
        best = max(overlaps, key=lambda number: overlaps[number], default=None)
        if best is None or overlaps[best] < PAIR_IOU:
            numbered.append(replace(one, id=other))
        else:
            numbered.append(replace(one, id=best))
            del free[best]
    return numbered


def _overlap(one: FrameObject, other: FrameObject) -> float:
    both = one.amodal and other.amodal
    masks = (one.amodal, other.amodal) if both else (one.visible, other.visible)
    if masks[0] is None or masks[1] is None:
        return 0.0
    return float(shape_iou(masks[:1], masks[1:], np.zeros(1, dtype=bool))[0, 0])


def _objects(records: list[dict[str, Any]], frame: int | None) -> list[FrameObject]:
    """Return what has a mask in an image, or in a frame of a video."""
    keys = (VISIBLE_SEGM, AMODAL_SEGM) if frame is None else (VISIBLE_KEY, AMODAL_KEY)
    objects = []
    for number, record in enumerate(records):
        masks = [record.get(key) for key in keys]
        if frame is not None:
            masks = [None if tube is None else tube[frame] for tube in masks]
        if any(masks):
            score = record.get("score", 1.0)
            objects.append(FrameObject(number, record["category_id"], score, *masks))
    return objects


def _draw(
    frame: Frame,
    truth: list[FrameObject],
    predicted: list[FrameObject],
    names: dict[int, str],
    whole: bool,
) -> bytes:
    """Return a JPEG of three panels, the predictions as whole objects on demand."""
    panels = []
    for objects in ([], truth, predicted):
        panel = frame.copy()
        draw_overlay(panel, objects, names, OverlayStyle(whole=whole and objects is predicted))
        height = max(1, round(panel.shape[0] * _WIDTH_PX / panel.shape[1]))
        panels.append(cv2.resize(panel, (_WIDTH_PX, height), interpolation=cv2.INTER_AREA))
    sheet = side_by_side(panels, ["picture", "ground truth", "prediction"])
    _, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    return data.tobytes()
