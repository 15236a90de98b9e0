"""HOTA, CLEAR and identity metrics of a set of videos, in the averages over classes that are used.

Detections are compared within their class only. All predictions count unless a score threshold is
set: unlike AP, these metrics punish every false positive alike. Crowd tracks count as any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from amodal2.evaluation.overlaps import Overlaps
from amodal2.evaluation.report import TRACKING_FRACTIONS, TrackingScores
from amodal2.evaluation.tracking_counts import TrackingCounts, count_video, drop_tracks
from amodal2.evaluation.tracking_details import TrackingDetails
from amodal2.evaluation.video_cells import Key, TrackPairing, VideoCell


class TrackingMetrics:
    """Takes the cells of a pairing and counts them, for all true tracks and for parts of them."""

    def __init__(
        self,
        pairing: TrackPairing,
        *,
        score_threshold: float | None = None,
        parts: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Prepare for the cells of one pairing.

        Args:
            pairing: where the cells come from.
            score_threshold: lowest score of the predictions that count; None takes all.
            parts: name -> ndarray[M] of bool: the true tracks that count; see
                :func:`amodal2.evaluation.tracking_counts.drop_tracks` for the predictions.
        """
        self._pairing = pairing
        self._threshold = score_threshold
        self._parts = dict(parts or {})
        self._by_video: dict[str, list[tuple[Key, int, TrackingCounts]]] = {
            name: [] for name in ["", *self._parts]
        }
        self._counts: dict[str, dict[Key, TrackingCounts]] = {
            name: {key: TrackingCounts() for key in pairing.keys()} for name in ["", *self._parts]
        }

    def add(self, cell: VideoCell) -> None:
        """Take one cell. The result does not depend on the order of tracks in the files."""
        rows = self._pairing.canonical_order(cell.rows)
        if self._threshold is not None:
            scores = self._pairing.scores[cell.rows]
            rows = [row for row in rows if scores[row] >= self._threshold]
        ids = [self._pairing.tracks[i]["id"] for i in cell.columns]
        columns = np.argsort(np.array(ids, dtype=np.int64))
        overlaps = _select(cell.overlaps, np.array(rows, dtype=np.int64), columns)
        self._count("", cell, overlaps)
        for name, counted in self._parts.items():
            self._count(name, cell, drop_tracks(overlaps, ~counted[cell.columns[columns]]))

    def details(self, part: str = "") -> TrackingDetails:
        """Return the counts of every video.

        Args:
            part: name of a part; the default is all true tracks.
        """
        scenes = sorted(video["id"] for video in self._pairing.dataset.videos)
        return TrackingDetails(scenes, self._by_video[part])

    def _count(self, part: str, cell: VideoCell, overlaps: Overlaps) -> None:
        counts = count_video(overlaps)
        self._counts[part][cell.key] += counts
        self._by_video[part].append((cell.key, self._pairing.video_of(cell), counts))

    def scores(self, part: str = "") -> TrackingScores:
        """Return the metrics of what was added.

        Args:
            part: name of a part; the default is all true tracks.
        """
        counts = list(self._counts[part].values())
        total = sum(counts, TrackingCounts())
        if self._pairing.class_agnostic:
            overall = total.stats() if total.truth else {}
            return TrackingScores(self._protocol(part), {"class_agnostic": overall})
        with_truth = [one.stats() for one in counts if one.truth]
        return TrackingScores(
            self._protocol(part),
            {
                "class_average": _average(with_truth),
                "all_classes_average": _average([one.stats() for one in counts]),
                "detection_average": total.stats(),
            },
            {
                name: one.stats()
                for name, one in zip(self._pairing.names(), counts, strict=True)
                if one.truth or one.predicted
            },
        )

    def _protocol(self, part: str) -> str:
        """Describe how the numbers came about, for the report."""
        classes = (
            "all classes as one (as TrackEval MotChallenge2DBox without preprocessing)"
            if self._pairing.class_agnostic
            else "average over the classes with ground truth"
        )
        threshold = self._threshold
        taken = "all predictions" if threshold is None else f"predictions of score >= {threshold:g}"
        split = "; predictions on true tracks outside the bin left out per frame" if part else ""
        return f"TrackEval HOTA, CLEAR and Identity; {classes}; {taken}{split}"


def _select(overlaps: Overlaps, rows: np.ndarray, columns: np.ndarray) -> Overlaps:
    return Overlaps(
        overlaps.frames[:, rows[:, None], columns],
        overlaps.tubes[rows[:, None], columns],
        overlaps.predicted[:, rows],
        overlaps.truth[:, columns],
    )


def _average(classes: list[dict[str, float]]) -> dict[str, float]:
    """Average the fractions of the classes and sum the numbers; empty without classes."""
    if not classes:
        return {}
    return {
        name: float(np.mean([one[name] for one in classes]))
        if name in TRACKING_FRACTIONS
        else sum(one[name] for one in classes)
        for name in classes[0]
    }
