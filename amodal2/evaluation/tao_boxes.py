"""Boxes that the rules of TAO-Amodal compare: those of the ground truth and of predictions.

Predictions come in one of two forms. Records of tracks (``video_id, category_id, score`` and
``amodal_bboxes``, or masks whose tight boxes are taken) are those of all video evaluations. Records
of boxes are TAO's own: ``image_id, category_id, score, bbox`` and, to be scored as tracks too,
``track_id``, which counts within its video.

Dimensions: N boxes, F frames of all videos, K tracks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amodal2.evaluation.box_tubes import box_tubes
from amodal2.evaluation.overlaps import BoxTubes
from amodal2.evaluation.predictions import Record, check_predictions, record_problem
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY, Problem
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.errors import AnnotationError

BOXES_PER_FRAME = 300
"""Predicted boxes of a frame that count, those of the highest scores (LVIS, TAO)."""

MASK_OF_KIND = {"amodal": AMODAL_KEY, "modal": VISIBLE_KEY}
"""Kind of box -> masks whose tight boxes stand in for boxes that are not stated."""
BOXES_OF_KIND = {"amodal": ("amodal_bboxes",), "modal": ("visible_bboxes", "bboxes")}
"""Kind of box -> lists of boxes; the first one that has any box counts."""

_LARGEST = 1e9


class Frames:
    """The frames of all videos in the order in which their boxes are joined.

    Attributes:
        videos (ndarray[F]): id of the video of each frame.
        times (ndarray[F]): index of the frame in its video.
        places: video id -> ndarray[T], positions of its frames here.
        images: image id -> position; empty if the videos do not state their ``image_ids``.
    """

    def __init__(self, dataset: VideoDataset) -> None:
        """Order the frames by image id where the videos state them, else by video id and time.

        Args:
            dataset: the ground truth.
        """
        stated = all(len(one.get("image_ids", ())) == one["length"] for one in dataset.videos)
        entries = sorted(
            (one["image_ids"][t] if stated else 0, one["id"], t)
            for one in dataset.videos
            for t in range(one["length"])
        )
        self.videos = np.array([video for _, video, _ in entries], dtype=np.int64)
        self.times = np.array([t for _, _, t in entries], dtype=np.int64)
        self.images = {image: i for i, (image, _, _) in enumerate(entries)} if stated else {}
        self.places = {one["id"]: np.zeros(one["length"], dtype=np.int64) for one in dataset.videos}
        for i, (_, video, t) in enumerate(entries):
            self.places[video][t] = i


@dataclass
class Boxes:
    """N boxes, true or predicted ones.

    Args:
        frames (ndarray[N]): positions in ``Frames``.
        categories (ndarray[N]): ids.
        boxes (ndarray[N, 4]): x, y, width and height in pixels; they may leave the frame.
        tracks (ndarray[N]): number of the track, from 0 over all videos.
        scores (ndarray[N]): 0 for true boxes.
        tracked: whether boxes of several frames may belong to one track.
    """

    frames: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    tracks: np.ndarray
    scores: np.ndarray
    tracked: bool = True

    def select(self, chosen: np.ndarray) -> Boxes:
        """Return some of the boxes.

        Args:
            chosen (ndarray): positions, or ndarray[N] of bool.
        """
        return Boxes(
            self.frames[chosen],
            self.categories[chosen],
            self.boxes[chosen],
            self.tracks[chosen],
            self.scores[chosen],
            self.tracked,
        )


def true_boxes(dataset: VideoDataset, kind: str, frames: Frames) -> Boxes | None:
    """Return the boxes of the true tracks; a track's number is its position in the dataset.

    Args:
        dataset: the ground truth.
        kind: "amodal" or "modal".
        frames: of the dataset.

    Returns:
        Boxes: None if the dataset has neither such boxes nor their masks.
    """
    tubes = _stated_or_tight(dataset.annotations, kind, frames, dataset.file)
    scores = [0.0] * len(dataset.annotations)
    return None if tubes is None else _from_tubes(dataset.annotations, tubes, scores, frames)


def predicted_boxes(
    predictions: Iterable[Any],
    dataset: VideoDataset,
    kind: str,
    frames: Frames,
    *,
    file: str | Path | None = None,
) -> tuple[Boxes | None, list[str]]:
    """Check predictions of either form and return their boxes, at most 300 of a frame.

    Args:
        predictions: records, see the module's docstring. Left unchanged. The ``bbox`` of a record
            of a box counts as amodal and as modal box.
        dataset: the ground truth.
        kind: "amodal" or "modal".
        frames: of the dataset.
        file: where the records come from, for the messages.

    Returns:
        tuple: the boxes, None if the records have none of this kind; and notes about what is legal
        and yet looks wrong.

    Raises:
        AnnotationError: naming file, number of the record (from 0) and key; if ids are unknown, a
            score is no finite number, a box is no box, or a track has two categories, or two boxes
            in a frame.
    """
    records = list(predictions)
    if any(isinstance(record, dict) and "bbox" in record for record in records):
        return _limited(_from_boxes(records, dataset, frames, file)), []
    records, notes = _checked(records, dataset, file)
    tubes = _stated_or_tight(records, kind, frames, file)
    if tubes is None:
        return None, notes
    own = [record.get("amodal_score") if kind == "amodal" else None for record in records]
    scores = [r["score"] if one is None else one for r, one in zip(records, own, strict=True)]
    return _limited(_from_tubes(records, tubes, scores, frames)), notes


def _stated_or_tight(
    records: list[Record], kind: str, frames: Frames, file: str | Path | None
) -> BoxTubes | None:
    keys = BOXES_OF_KIND[kind]
    key = next((k for k in keys if any(any(r.get(k) or ()) for r in records)), keys[-1])
    mask_key = MASK_OF_KIND[kind]
    if not all(record.get(key) is not None or mask_key in record for record in records):
        return None
    lengths = {video: len(places) for video, places in frames.places.items()}
    return box_tubes(records, key, mask_key, lengths, file=file)


def _from_tubes(
    records: Sequence[Record], tubes: BoxTubes, scores: Sequence[float], frames: Frames
) -> Boxes:
    present = [~np.isnan(one[:, 0]) for one in tubes.boxes]
    counts = [int(one.sum()) for one in present]
    places = [frames.places[r["video_id"]][one] for r, one in zip(records, present, strict=True)]
    boxes = [one[chosen] for one, chosen in zip(tubes.boxes, present, strict=True)]
    return Boxes(
        np.concatenate([np.zeros(0, np.int64), *places]),
        np.repeat(np.array([r["category_id"] for r in records], dtype=np.int64), counts),
        np.concatenate([np.zeros((0, 4)), *boxes]),
        np.repeat(np.arange(len(records)), counts),
        np.repeat(np.array(scores, dtype=np.float64), counts),
    )


def _checked(
    records: list[Any], dataset: VideoDataset, file: str | Path | None
) -> tuple[list[Record], list[str]]:
    """Check records of tracks, of which those with boxes need no masks."""
    masks = MASK_OF_KIND.values()
    if any(isinstance(record, dict) and record.get(key) for record in records for key in masks):
        return check_predictions(records, dataset, file=file)
    known = _known_ids(dataset)
    for position, record in enumerate(records):
        problem = record_problem(record, known)
        if problem is not None:
            _stop(problem, position, record, file)
    return records, []


def _from_boxes(
    records: list[Any], dataset: VideoDataset, frames: Frames, file: str | Path | None
) -> Boxes:
    """Check records of boxes and number their tracks; without ``track_id`` each box is one."""
    known = _known_ids(dataset)
    tracked = all(isinstance(record, dict) and "track_id" in record for record in records)
    numbers: dict[tuple[int, int], int] = {}
    categories: list[int] = []
    taken: set[tuple[int, int]] = set()
    tracks = []
    for position, record in enumerate(records):
        problem = _box_problem(record, frames)
        if problem is None:
            frame = frames.images[record["image_id"]]
            video = int(frames.videos[frame])
            problem = record_problem({**record, "video_id": video}, known)
        if problem is None:
            key = (video, record["track_id"] if tracked else position)
            number = numbers.setdefault(key, len(numbers))
            if number == len(categories):
                categories.append(record["category_id"])
            if categories[number] != record["category_id"] or (number, frame) in taken:
                problem = "track_id", "expected a track of one category with one box per frame"
            taken.add((number, frame))
            tracks.append(number)
        if problem is not None:
            _stop(problem, position, record, file)
    return Boxes(
        np.array([frames.images[record["image_id"]] for record in records], dtype=np.int64),
        np.array([record["category_id"] for record in records], dtype=np.int64),
        np.array([record["bbox"] for record in records], dtype=np.float64).reshape(-1, 4),
        np.array(tracks, dtype=np.int64),
        np.array([record["score"] for record in records], dtype=np.float64),
        tracked,
    )


def _box_problem(record: Any, frames: Frames) -> Problem | None:
    """Tell what is wrong with the place, the box or the track of a record of a box."""
    if not isinstance(record, dict):
        return "record", f"expected an object, got {record!r:.80}"
    image = record.get("image_id")
    if type(image) is not int or image not in frames.images:
        first = ", ".join(map(str, sorted(frames.images)[:10])) or "it states none"
        return "image_id", (
            f"expected one of the {len(frames.images)} image ids of the ground truth ({first}"
            f"{', ...' if len(frames.images) > 10 else ''}), got {image!r}"
        )
    if "track_id" in record and type(record["track_id"]) is not int:
        return "track_id", f"expected an integer, got {record['track_id']!r}"
    box = record.get("bbox")
    if not isinstance(box, list) or [type(side) in (int, float) for side in box] != [True] * 4:
        return "bbox", f"expected a box [x, y, w, h], got {box!r:.80}"
    # Comparisons are safe for integers that no float can hold, and false for NaN.
    if not all(-_LARGEST < side < _LARGEST for side in box) or box[2] < 0 or box[3] < 0:
        return "bbox", f"expected pixels, the last two not negative, got {box!r:.80}"
    return None


def _limited(boxes: Boxes) -> Boxes:
    """Keep the boxes of the highest scores of each frame; equal ones by their place in the file."""
    order = np.lexsort((-boxes.scores, boxes.frames))
    frames = boxes.frames[order]
    rank = np.arange(len(order)) - np.searchsorted(frames, frames)
    return boxes.select(np.sort(order[rank < BOXES_PER_FRAME]))


def _known_ids(dataset: VideoDataset) -> dict[str, set[int]]:
    return {
        "video_id": {video["id"] for video in dataset.videos},
        "category_id": {category["id"] for category in dataset.categories},
    }


def _stop(problem: Problem, position: int, record: Any, file: str | Path | None) -> None:
    key, text = problem
    raise AnnotationError(
        f"predicted_boxes: {text} (prediction record {position})",
        file=file,
        image_id=record.get("image_id") if isinstance(record, dict) else None,
        key=key,
    )
