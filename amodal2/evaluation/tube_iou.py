"""Intersection over union of mask tubes (the mask tracks of one video).

Tube IoU = sum over frames of the intersections / sum over frames of the unions. One call into
pycocotools per frame gives the IoU q of all pairs of that frame; with the two areas a and b the
integer intersection is recovered exactly as q (a + b) / (1 + q), because q = I / (a + b - I).
Frames in which one side has no mask add their area to the union only, which the sum of all areas
already holds.

Dimensions: D predicted tracks, G ground-truth tracks, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from amodal2.structures.rle import rle_areas
from amodal2.structures.track import MaskTube


@dataclass
class Tubes:
    """Mask tracks of one video, or of several for :func:`measure_tubes`.

    Args:
        masks: N lists of T valid RLEs or None.
        areas: N arrays of T pixel counts, 0 where there is no mask.
    """

    masks: list[MaskTube]
    areas: list[np.ndarray]

    def select(self, indices: Sequence[int]) -> Tubes:
        """Return some of the tracks.

        Args:
            indices: positions of the tracks, in the wanted order.
        """
        return Tubes([self.masks[i] for i in indices], [self.areas[i] for i in indices])

    def mean_areas(self) -> np.ndarray:
        """Return the mean area in pixels over the frames with a mask of each track.

        Returns:
            ndarray[N]: float; 0 for a track without any mask.
        """
        return np.array([mean_area(areas) for areas in self.areas], dtype=np.float64)


def mean_area(areas: Sequence[Any] | np.ndarray) -> float:
    """Average the areas of the frames that have one.

    Args:
        areas: T pixel counts; None and 0 are left out.

    Returns:
        float: 0 if nothing is left.
    """
    present = [area for area in areas if area]
    return float(np.mean(present)) if present else 0.0


def measure_tubes(masks: list[MaskTube]) -> Tubes:
    """Compute the areas of many tracks at once.

    Args:
        masks: N lists of T valid RLEs or None; T may differ between tracks.

    Returns:
        Tubes: the masks with their areas.
    """
    present = [(i, t) for i, tube in enumerate(masks) for t, rle in enumerate(tube) if rle]
    values = rle_areas([rle for tube in masks for rle in tube if rle])
    areas = [np.zeros(len(tube), dtype=np.int64) for tube in masks]
    for (i, t), value in zip(present, values.tolist(), strict=True):
        areas[i][t] = value
    return Tubes(masks, areas)


def tube_iou(predicted: Tubes, truth: Tubes) -> np.ndarray:
    """Compute the IoU of every predicted with every true tube of one video.

    Args:
        predicted: D tracks.
        truth: G tracks of the same number of frames.

    Returns:
        ndarray[D, G]: float64 in [0, 1]; 0 where both tubes are empty.
    """
    shape = (len(predicted.masks), len(truth.masks))
    if not all(shape):
        return np.zeros(shape)
    predicted_areas, truth_areas = np.stack(predicted.areas), np.stack(truth.areas)
    intersection = np.zeros(shape)
    for t in range(predicted_areas.shape[1]):
        rows, columns = np.flatnonzero(predicted_areas[:, t]), np.flatnonzero(truth_areas[:, t])
        if not len(rows) or not len(columns):
            continue
        frame_iou = coco_mask.iou(
            [predicted.masks[i][t] for i in rows],
            [truth.masks[j][t] for j in columns],
            [0] * len(columns),
        )
        total = predicted_areas[rows, t][:, None] + truth_areas[columns, t]
        intersection[np.ix_(rows, columns)] += np.rint(frame_iou * total / (1 + frame_iou))
    union = predicted_areas.sum(1)[:, None] + truth_areas.sum(1) - intersection
    return np.divide(intersection, union, out=np.zeros(shape), where=union > 0)
