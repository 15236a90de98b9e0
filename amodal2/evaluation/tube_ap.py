"""AP and AR over tubes by the YTVIS rules, for masks and for boxes.

A predicted track is one tube with one class and one score. Tube IoU is the sum over frames of the
intersections over the sum of the unions; matching and averaging are those of COCO with the video in
place of the image, except that crowd tracks use the ordinary IoU. Sizes: small below 128^2, medium
below 256^2 pixels of mean mask area; boxes are not split by size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from amodal2.evaluation.ap_details import APDetails, SceneCell
from amodal2.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    VIDEO_AREA_RANGES,
    Cell,
    Curves,
    accumulate,
    match_cell,
    mean_defined,
)
from amodal2.evaluation.overlaps import BoxTubes, mean_area
from amodal2.evaluation.report import APScores
from amodal2.evaluation.video_cells import TrackPairing, VideoCell

ALL_AREAS = {"all": VIDEO_AREA_RANGES["all"]}


class TubeAP:
    """Takes the cells of a pairing; scores them as often as wanted, ignoring other tracks."""

    def __init__(self, pairing: TrackPairing, area_key: str | None = None) -> None:
        """Prepare for the cells of one pairing.

        Args:
            pairing: where the cells come from.
            area_key: list of per-frame areas in the records of the ground truth; tracks without it
                are measured.
        """
        self._pairing = pairing
        self._ranges = ALL_AREAS if isinstance(pairing.truth, BoxTubes) else VIDEO_AREA_RANGES
        self._crowd = np.array([track["iscrowd"] for track in pairing.tracks], dtype=bool)
        self._areas = pairing.truth.mean_areas()
        for i, track in enumerate(pairing.tracks):
            if area_key in track:
                self._areas[i] = mean_area(track[area_key])
        self._cells: dict[int | None, list[tuple[Cell, np.ndarray, int]]] = {
            key: [] for key in pairing.keys()
        }

    def add(self, cell: VideoCell) -> None:
        """Take one cell, of which the first 100 predictions count."""
        rows, columns = cell.rows[: MAX_DETECTIONS[-1]], cell.columns
        taken = Cell(
            scores=self._pairing.scores[rows],
            iou=cell.overlaps.tubes[: len(rows)],
            prediction_areas=self._pairing.predicted.select(rows.tolist()).mean_areas(),
            truth_areas=self._areas[columns],
            crowd=self._crowd[columns],
            ignore=np.zeros(len(columns), dtype=bool),
        )
        self._cells[cell.key].append((taken, columns, self._pairing.video_of(cell)))

    def score(self, ignore: np.ndarray | None = None) -> APScores:
        """Match and average.

        Args:
            ignore (ndarray[M] | None): bool; true tracks of the pairing that do not count.
        """
        ranges = np.array(list(self._ranges.values()))
        matches = [
            [
                match_cell(
                    cell if ignore is None else replace(cell, ignore=ignore[columns]),
                    ranges,
                    IOU_THRESHOLDS,
                )
                for cell, columns, _ in cells
            ]
            for cells in self._cells.values()
        ]
        return _summarize(accumulate(matches, len(ranges)), self._pairing.names(), self._ranges)

    def details(
        self, rates: Callable[[], np.ndarray], ignore: np.ndarray | None = None
    ) -> APDetails:
        """Return the cells by video.

        Args:
            rates: returns the mean occlusion rates [M] of the true tracks, NaN where unknown.
            ignore (ndarray[M] | None): bool; true tracks that do not count.
        """
        cells = [
            [
                SceneCell(
                    video,
                    cell if ignore is None else replace(cell, ignore=ignore[columns]),
                    columns,
                )
                for cell, columns, video in row
            ]
            for row in self._cells.values()
        ]
        videos = sorted(video["id"] for video in self._pairing.dataset.videos)
        return APDetails(videos, cells, self._ranges, MAX_DETECTIONS, rates, ignore is not None)


def _summarize(
    curves: Curves, category_names: list[str], area_ranges: Mapping[str, object]
) -> APScores:
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
        for a, name in enumerate(area_ranges):
            if name != "all":
                stats[f"{metric}{name[0]}"] = mean_defined(values[..., a, -1])
    per_category = {
        name: mean_defined(precision[:, :, k, 0, -1]) for k, name in enumerate(category_names)
    }
    return APScores(stats, per_category)
