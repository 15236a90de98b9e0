"""Detection AP and track AP of TAO-Amodal on amodal or modal boxes, with its splits.

Detections are compared in every annotated frame, tracks by the sum of their intersections over the
sum of their unions. Both are federated as in LVIS: predictions of a category that is neither
annotated in the frame (the video) nor listed in the video's ``neg_category_ids`` are left out, and
those of its ``not_exhaustive_category_ids`` cannot be false positives. Videos without these lists
count as annotated in full. AP averages over the categories that have ground truth.

Ground truth outside a split is ignored; predictions that take nothing stay false positives. The
splits are those of the official code. Boxes: by visibility v, and by the flag ``out_of_frame``.
Tracks: HP, those with more than 5 frames of v < .8; by mean area of the boxes and by number of
annotated frames, where predictions outside the range that take nothing are ignored as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from amodal2.evaluation.ap_details import APDetails, SceneCell
from amodal2.evaluation.average_precision import (
    IOU_THRESHOLDS,
    Cell,
    Matches,
    accumulate,
    match_cell,
    mean_defined,
)
from amodal2.evaluation.image_report import ImageReport, ImageReports
from amodal2.evaluation.report import APScores
from amodal2.evaluation.tao_boxes import (
    BOXES_OF_KIND,
    BOXES_PER_FRAME,
    Boxes,
    Frames,
    predicted_boxes,
    true_boxes,
)
from amodal2.evaluation.tao_cells import BoxCell, Federation, frame_cells, join_tracks, track_cells
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

VISIBILITY_SPLITS = {"HO": (0.0, 0.1), "PO": (0.1, 0.8), "HV": (0.8, 1.0), "HP": (0.0, 0.8)}
"""Split -> lowest and highest visibility of a true box, both included."""
HIDDEN_FRAMES, HIDDEN_BELOW = 5, 0.8
"""The tracks of the split HP have more frames than this below this visibility."""
AREA_SPLITS = {
    "area_small": (0.0, 32.0**2),
    "area_medium": (32.0**2, 96.0**2),
    "area_large": (96.0**2, 1e10),
}
"""Split -> smallest and largest mean area of the boxes of a track in square pixels."""
LENGTH_SPLITS = {"time_short": (0, 3), "time_medium": (3, 10), "time_long": (10, 100_000)}
"""Split -> smallest and largest number of annotated frames of a track."""
FREQUENCIES = ("r", "c", "f")
"""How often LVIS has a category: rarely, commonly, frequently."""

TAO_PROTOCOLS = {f"tao_{kind}": kind for kind in BOXES_OF_KIND}
"""Name of the protocol -> kind of the compared boxes."""

_ALL_AREAS = {"all": (0.0, 1e10)}


@dataclass
class TaoReport(ImageReport):
    """AP and AR of boxes in frames, or of tracks of boxes."""

    task: ClassVar[str] = "video"
    main_columns: ClassVar[Sequence[str]] = ("AP", "AP50", "AP75", f"AR{BOXES_PER_FRAME}")


@dataclass
class _Row:
    """What the rows of one report have in common.

    Args:
        report: where they go.
        name: of the row without a split.
        dataset: the ground truth.
        cells: of all categories.
        scores: of the predictions.
        partial: bool; predictions that cannot be wrong.
        visibilities: of the ground truths, NaN where unknown.
        splits: name, ignored ground truths and predictions that cannot be wrong, of each row.
    """

    report: TaoReport
    name: str
    dataset: VideoDataset
    cells: list[BoxCell]
    scores: np.ndarray
    partial: np.ndarray
    visibilities: np.ndarray

    splits: list[tuple[str | None, np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(
        self, split: str | None, outside: np.ndarray, lenient: np.ndarray | None = None
    ) -> None:
        """Take one split.

        Args:
            split: its name; None for the row of everything.
            outside (ndarray): bool; ground truths that are ignored.
            lenient (ndarray | None): bool; predictions that cannot be wrong in this split.
        """
        self.splits.append(
            (split, outside, self.partial if lenient is None else self.partial | lenient)
        )

    def score(self) -> None:
        """Match every cell once, for all splits together, and enter the rows of the report."""
        outside = np.stack([one for _, one, _ in self.splits])
        unpunished = np.stack([one for _, _, one in self.splits])
        ranges = np.tile(_ALL_AREAS["all"], (len(self.splits), 1))
        limit = max([BOXES_PER_FRAME, *(len(one.rows) for one in self.cells)])
        matches: dict[int, list[Matches]] = {c["id"]: [] for c in self.dataset.categories}
        for one in self.cells:
            cell = self._cell(one, outside, unpunished)
            matches[one.category].append(match_cell(cell, ranges, IOU_THRESHOLDS))
        curves = accumulate(list(matches.values()), len(self.splits), limits=[limit])
        for a, (split, ignored, spared) in enumerate(self.splits):
            row = self.name if split is None else f"{self.name}/{split}"
            scores = self._summarize(curves.precision[..., a, 0], curves.recall[..., a, 0])
            self.report.rows[row] = scores
            by_category: dict[int, list[SceneCell]] = {key: [] for key in matches}
            for one in self.cells:
                cell = self._cell(one, ignored, spared)
                by_category[one.category].append(SceneCell(one.scene, cell, one.columns))
            self.report.samplers[self.report.protocol, row] = APDetails(
                sorted(video["id"] for video in self.dataset.videos),
                list(by_category.values()),
                _ALL_AREAS,
                (limit,),
                lambda: 1 - self.visibilities,
                part=split is not None,
            )

    def _cell(self, one: BoxCell, outside: np.ndarray, unpunished: np.ndarray) -> Cell:
        """Return the cell for one split, or with [A, ...] flags for A of them."""
        return Cell(
            scores=self.scores[one.rows],
            iou=one.iou,
            # Outside the one range of areas, a prediction that takes nothing is ignored.
            prediction_areas=np.where(unpunished[..., one.rows], np.inf, 0.0),
            truth_areas=np.zeros(len(one.columns)),
            crowd=np.zeros(len(one.columns), dtype=bool),
            ignore=outside[..., one.columns],
        )

    def _summarize(self, precision: np.ndarray, recall: np.ndarray) -> APScores:
        """Average precision [T, R, K] and recall [T, K]."""
        stats = {
            "AP": mean_defined(precision),
            "AP50": mean_defined(precision[0]),
            "AP75": mean_defined(precision[5]),
            f"AR{BOXES_PER_FRAME}": mean_defined(recall),
        }
        groups = np.array([entry.get("frequency") for entry in self.dataset.categories])
        for letter in FREQUENCIES:
            stats[f"AP{letter}"] = mean_defined(precision[:, :, groups == letter])
        names = [entry["name"] for entry in self.dataset.categories]
        per_category = {name: mean_defined(precision[..., k]) for k, name in enumerate(names)}
        return APScores(stats, per_category)


def evaluate_tao(
    dataset: VideoDataset,
    predictions: Iterable[Any],
    *,
    kind: str = "amodal",
    file: str | Path | None = None,
) -> ImageReports:
    """Score predicted boxes by the rules of TAO-Amodal, in frames and as tracks.

    Args:
        dataset: the ground truth, made by ``datasets/prepare_tao_amodal.py`` or any other one with
            boxes or masks. A visibility that it does not state is 1 - occlusion rate.
        predictions: records of tracks or of boxes, see :mod:`amodal2.evaluation.tao_boxes`.
        kind: "amodal" or "modal": which boxes are compared.
        file: where the predictions come from, for the messages.

    Returns:
        ImageReports: of detection (rows ``<kind>_box`` and ``<kind>_box/<split>``) and of tracking
        (``<kind>_track`` and ``<kind>_track/<split>``). Boxes that were not predicted, tracks of
        boxes without ``track_id``, and splits of which the ground truth says nothing are absent.

    Raises:
        AnnotationError: if a prediction is invalid.
        ValueError: if the kind is unknown.
    """
    if kind not in BOXES_OF_KIND:
        raise ValueError(f"evaluate_tao: expected a kind of {list(BOXES_OF_KIND)}, got {kind!r}")
    rules = f"{kind} boxes, federated as LVIS, at most {BOXES_PER_FRAME} boxes per frame"
    detection = TaoReport(f"TAO-Amodal detection: IoU .5:.95, {rules}", {})
    tracking = TaoReport(f"TAO-Amodal tracking: IoU of whole tracks .5:.95, {rules}", {})
    both = ImageReports([detection, tracking])
    frames = Frames(dataset)
    found, detection.notes = predicted_boxes(predictions, dataset, kind, frames, file=file)
    truth = true_boxes(dataset, kind, frames)
    if truth is None or found is None:
        reason = "not predicted" if found is None else "not in the ground truth"
        detection.absent[f"{kind}_box"] = tracking.absent[f"{kind}_track"] = reason
        return both
    detection.counts = tracking.counts = {
        "videos": len(dataset.videos),
        "annotated frames": len(frames.videos),
        "true boxes": len(truth.boxes),
        "true tracks": len(np.unique(truth.tracks)),
        "predicted boxes": len(found.boxes),
    }
    job = _Job(dataset, frames, Federation(dataset), truth, found, kind)
    if job.federation.unstated:
        detection.notes.append(
            f"{job.federation.unstated} videos without neg_category_ids: annotated in full"
        )
    _score_frames(detection, job)
    if found.tracked:
        _score_tracks(tracking, job)
    else:
        tracking.absent[f"{kind}_track"] = "not predicted: the boxes have no track_id"
    for note in detection.notes:
        logger.warning(note)
    return both


@dataclass
class _Job:
    """What is compared."""

    dataset: VideoDataset
    frames: Frames
    federation: Federation
    truth: Boxes
    found: Boxes
    kind: str

    def per_box(self, read: Callable[[dict[str, Any]], Sequence[Any] | None]) -> np.ndarray:
        """Return a number of every true box, NaN where it is not known.

        Args:
            read: returns the list of a track, None if it has none.
        """
        lists = [read(track) for track in self.dataset.annotations]
        times = self.frames.times[self.truth.frames]
        values = np.full(len(times), np.nan)
        for i, (track, time) in enumerate(zip(self.truth.tracks.tolist(), times, strict=True)):
            own = lists[track]
            if own is not None and own[time] is not None:
                values[i] = own[time]
        return values


def _score_frames(report: TaoReport, job: _Job) -> None:
    """Fill in the rows of detection."""
    truth, found, frames = job.truth, job.found, job.frames
    pairs = np.stack([truth.frames, truth.categories], axis=1)
    videos = frames.videos[found.frames]
    found = found.select(job.federation.annotated(found.frames, videos, found.categories, pairs))
    visibilities = job.per_box(_visibilities)
    row = _Row(
        report,
        f"{job.kind}_box",
        job.dataset,
        list(frame_cells(frames, truth, found)),
        found.scores,
        job.federation.partial(frames.videos[found.frames], found.categories),
        visibilities,
    )
    row.add(None, np.zeros(len(truth.boxes), dtype=bool))
    for split, (low, high) in VISIBILITY_SPLITS.items():
        if np.isnan(visibilities).all():
            report.absent[f"{row.name}/{split}"] = "no visibilities in the ground truth"
        else:
            row.add(split, ~((visibilities >= low) & (visibilities <= high)))
    flags = job.per_box(lambda track: track.get("out_of_frame"))
    if np.isnan(flags).all():
        report.absent[f"{row.name}/OOF"] = "no out_of_frame in the ground truth"
    else:
        row.add("OOF", flags != 1)
    row.score()


def _score_tracks(report: TaoReport, job: _Job) -> None:
    """Fill in the rows of tracking."""
    own, found = join_tracks(job.truth, job.frames), join_tracks(job.found, job.frames)
    pairs = np.stack([own.videos, own.categories], axis=1)
    found = found.select(
        job.federation.annotated(found.videos, found.videos, found.categories, pairs)
    )
    by_box = job.per_box(_visibilities)
    known = [by_box[one][~np.isnan(by_box[one])] for one in own.members]
    row = _Row(
        report,
        f"{job.kind}_track",
        job.dataset,
        list(track_cells(job.frames, (job.truth, own), (job.found, found))),
        found.scores,
        job.federation.partial(found.videos, found.categories),
        np.array([one.mean() if len(one) else np.nan for one in known], dtype=np.float64),
    )
    row.add(None, np.zeros(len(own.members), dtype=bool))
    if np.isnan(by_box).all():
        report.absent[f"{row.name}/HP"] = "no visibilities in the ground truth"
    else:
        hidden = np.array([(one < HIDDEN_BELOW).sum() for one in known], dtype=np.int64)
        row.add("HP", hidden <= HIDDEN_FRAMES)
    for splits, true_values, values in (
        (AREA_SPLITS, own.areas, found.areas),
        (LENGTH_SPLITS, own.lengths, found.lengths),
    ):
        for split, (low, high) in splits.items():
            outside = (true_values < low) | (true_values > high)
            row.add(split, outside, (values < low) | (values > high))
    row.score()


def _visibilities(track: dict[str, Any]) -> list[float | None] | None:
    """Return the visibilities of a track, None if they are not known."""
    stated: list[float | None] | None = track.get("visibilities")
    rates = track.get("occlusion_rates")
    if stated is None and rates is not None:
        return [None if rate is None else 1 - rate for rate in rates]
    return stated
