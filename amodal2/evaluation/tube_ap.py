"""AP and AR over mask tubes by the YTVIS rules, for visible and for amodal masks.

A predicted track is one tube with one class and one score. Tube IoU is the sum over frames of the
intersections over the sum of the unions; matching and averaging are those of COCO with the video in
place of the image, except that crowd tracks use the ordinary IoU. Sizes: small below 128^2, medium
below 256^2 pixels of mean mask area. Amodal scoring replaces masks and areas by the amodal ones on
both sides and takes ``amodal_score`` where a prediction has one. True tracks without a single mask
of a kind are left out for that kind. Occlusion rows (A2VIS Table 9): the occlusion of a track is
the mean of its occlusion rates; tracks outside the bin are ignored, so unmatched predictions count
as false positives in both bins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from amodal2.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    VIDEO_AREA_RANGES,
    Cell,
    Curves,
    Matches,
    accumulate,
    match_cell,
    mean_defined,
)
from amodal2.evaluation.predictions import MASK_KEYS, Record, check_predictions
from amodal2.evaluation.report import APScores, VideoAPReport
from amodal2.evaluation.tube_iou import Tubes, mean_area, measure_tubes, tube_iou
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

AREA_KEYS = {VISIBLE_KEY: "areas", AMODAL_KEY: "amodal_areas"}
OCCLUSION_BINS = {"lt50": (0.0, 0.5), "gt50": (np.nextafter(0.5, 1.0), 1.0)}
"""Bin -> lowest and highest mean occlusion rate of a track, both included."""


def evaluate_video_tracks(
    dataset: VideoDataset,
    predictions: Iterable[Any],
    *,
    file: str | Path | None = None,
    class_agnostic: bool = False,
    occlusion_bins: bool = False,
    visible_as_amodal: bool = False,
) -> VideoAPReport:
    """Score predicted tracks.

    Rows of the report: ``visible`` and ``amodal``, each if it was predicted and the ground truth
    has it (without any predictions: both that the ground truth has, with AP and AR 0), and on
    demand the rows below.

    Args:
        dataset: the ground truth.
        predictions: records, see :func:`amodal2.evaluation.predictions.check_predictions`.
        file: where the predictions come from, for the messages.
        class_agnostic: add ``<kind>_class_agnostic``: all classes count as one.
        occlusion_bins: add ``amodal_lt50`` and ``amodal_gt50``: tracks hidden by at most, or more
            than, one half on average.
        visible_as_amodal: add ``visible_as_amodal``: what the predicted visible masks score as
            amodal predictions, the least that an amodal head must beat.

    Returns:
        VideoAPReport: fractions, counts and notes.

    Raises:
        AnnotationError: if a prediction is invalid.
    """
    records, notes = check_predictions(predictions, dataset, file=file)
    report = VideoAPReport({}, _count(dataset, records), notes)
    jobs = []
    for kind, key in MASK_KEYS.items():
        if dataset.has(key) and all(key in record for record in records):
            jobs.append((kind, key, key))
    if visible_as_amodal and dataset.has(AMODAL_KEY):
        if all(VISIBLE_KEY in record for record in records):
            jobs.append(("visible_as_amodal", VISIBLE_KEY, AMODAL_KEY))
    for name, predicted_key, true_key in jobs:
        task = _Task(dataset, records, predicted_key, true_key)
        if task.num_empty:
            report.notes.append(f"{task.num_empty} true tracks without any mask left out of {name}")
        report.rows[name] = task.score()
        if occlusion_bins and name == "amodal":
            for bin_name, (low, high) in OCCLUSION_BINS.items():
                rates = task.occlusion_rates()
                outside = ~((rates >= low) & (rates <= high))
                report.rows[f"{name}_{bin_name}"] = task.score(ignore=outside)
        if class_agnostic and name in MASK_KEYS:
            task = _Task(dataset, records, predicted_key, true_key, class_agnostic=True)
            report.rows[f"{name}_class_agnostic"] = task.score()
    for note in report.notes:
        logger.warning(note)
    return report


class _Task:
    """Predictions and ground truth of one kind of mask, sorted into cells of one video and class.

    The IoUs are computed once, so that scoring again with other ignored tracks costs little.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        records: list[Record],
        predicted_key: str,
        true_key: str,
        class_agnostic: bool = False,
    ) -> None:
        self.tracks = [track for track in dataset.annotations if any(track[true_key])]
        self.num_empty = len(dataset.annotations) - len(self.tracks)
        self.category_names = {entry["id"]: entry["name"] for entry in dataset.categories}
        self.class_agnostic = class_agnostic
        truth = measure_tubes([track[true_key] for track in self.tracks])
        predicted = measure_tubes([record[predicted_key] for record in records])
        self.cells: list[list[tuple[Cell, list[int]]]] = []
        use_amodal_score = true_key == AMODAL_KEY
        scores = np.array([_score(record, use_amodal_score) for record in records], np.float64)
        areas = self._true_areas(truth, AREA_KEYS[true_key])
        crowd = np.array([track["iscrowd"] for track in self.tracks], dtype=bool)
        own, others = self._group(self.tracks), self._group(records)
        for key in self._category_keys():
            self.cells.append([])
            for video_id in sorted(video["id"] for video in dataset.videos):
                columns = own.get((key, video_id), [])
                rows = np.array(others.get((key, video_id), []), dtype=np.int64)
                if not columns and not len(rows):
                    continue
                rows = rows[np.argsort(-scores[rows], kind="stable")][: MAX_DETECTIONS[-1]]
                chosen = predicted.select(rows.tolist())
                cell = Cell(
                    scores=scores[rows],
                    iou=tube_iou(chosen, truth.select(columns)),
                    prediction_areas=chosen.mean_areas(),
                    truth_areas=areas[columns],
                    crowd=crowd[columns],
                    ignore=np.zeros(len(columns), dtype=bool),
                )
                self.cells[-1].append((cell, columns))

    def score(self, ignore: np.ndarray | None = None) -> APScores:
        """Match and average.

        Args:
            ignore (ndarray[G] | None): true tracks that do not count.
        """
        ranges = np.array(list(VIDEO_AREA_RANGES.values()))
        matches: list[list[Matches]] = []
        for cells in self.cells:
            matches.append([])
            for cell, columns in cells:
                if ignore is not None:
                    cell = replace(cell, ignore=ignore[columns])
                matches[-1].append(match_cell(cell, ranges, IOU_THRESHOLDS))
        names = [] if self.class_agnostic else list(self.category_names.values())
        return _summarize(accumulate(matches, len(ranges)), names)

    def occlusion_rates(self) -> np.ndarray:
        """Return the mean occlusion rate of each true track (ndarray[G])."""
        return np.array([_mean_occlusion(track) for track in self.tracks], dtype=np.float64)

    def _true_areas(self, truth: Tubes, key: str) -> np.ndarray:
        """Return the mean areas that the file states, or else measured ones."""
        measured = truth.mean_areas()
        for i, track in enumerate(self.tracks):
            if key in track:
                measured[i] = mean_area(track[key])
        return measured

    def _category_keys(self) -> list[int | None]:
        return [None] if self.class_agnostic else list(self.category_names)

    def _group(self, entries: list[Record]) -> dict[tuple[int | None, int], list[int]]:
        """Return the positions of the entries of each cell, by category and then as in the file."""
        groups: dict[tuple[int | None, int], list[int]] = {}
        for i in sorted(range(len(entries)), key=lambda i: entries[i]["category_id"]):
            key = None if self.class_agnostic else entries[i]["category_id"]
            groups.setdefault((key, entries[i]["video_id"]), []).append(i)
        return groups


def _score(record: Record, amodal: bool) -> float:
    own = record.get("amodal_score") if amodal else None
    return record["score"] if own is None else own


def _mean_occlusion(track: Record) -> float:
    """Average the occlusion rates over the frames with an amodal mask, measuring missing rates."""
    rates = track.get("occlusion_rates")
    if rates is None:
        amodal, visible = measure_tubes([track[AMODAL_KEY], track[VISIBLE_KEY]]).areas
        rates = [1 - v / a if a else None for v, a in zip(visible, amodal, strict=True)]
    return float(np.mean([rate for rate in rates if rate is not None]))


def _count(dataset: VideoDataset, records: list[Record]) -> dict[str, int]:
    return {
        "videos": len(dataset.videos),
        "true tracks": len(dataset.annotations),
        "predicted tracks": len(records),
    }


def _summarize(curves: Curves, category_names: list[str]) -> APScores:
    """Average precision [T, R, K, A, M] and recall [T, K, A, M] to the usual numbers."""
    precision, recall = curves.precision, curves.recall
    stats = {
        "AP": mean_defined(precision[:, :, :, 0, -1]),
        "AP50": mean_defined(precision[0, :, :, 0, -1]),
        "AP75": mean_defined(precision[5, :, :, 0, -1]),
    }
    for m, limit in enumerate(MAX_DETECTIONS):
        stats[f"AR{limit}"] = mean_defined(recall[:, :, 0, m])
    for metric, values in (("AP", precision), ("AR", recall)):
        for a, name in enumerate(VIDEO_AREA_RANGES):
            if name != "all":
                stats[f"{metric}{name[0]}"] = mean_defined(values[..., a, -1])
    per_category = {
        name: mean_defined(precision[:, :, k, 0, -1]) for k, name in enumerate(category_names)
    }
    return APScores(stats, per_category)
