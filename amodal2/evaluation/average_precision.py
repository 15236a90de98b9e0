"""Average precision and recall by the COCO rules, from IoU matrices; the same for images and tubes.

Per cell (one video and one category): predictions in descending order of score take, one after the
other, the unmatched ground truth of the highest IoU at or above the threshold. Ground truth may be
*ignored* (crowd, outside the area range, outside an occlusion bin): it is taken only if nothing
else fits, and whatever took it counts neither as right nor as wrong. Ties: equal scores keep the
order of the file, of equal IoUs the later ground truth wins.

Dimensions: D predictions, G ground truths, A area ranges, T IoU thresholds, R recall thresholds, K
categories, M limits of predictions per cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = (1, 10, 100)
"""Limits of predictions per video (or image) and category."""

VIDEO_AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 128.0**2),
    "medium": (128.0**2, 256.0**2),
    "large": (256.0**2, 1e10),
}
"""Mean mask area of a tube in pixels, both ends included (YTVIS)."""


@dataclass
class Cell:
    """Predictions and ground truth of one video and one category.

    Args:
        scores (ndarray[D]): in descending order.
        iou (ndarray[D, G]): of every pair.
        prediction_areas (ndarray[D]): pixels; [A, D] where they differ between the A ranges.
        truth_areas (ndarray[G]): pixels.
        crowd (ndarray[G]): bool; may be taken by several predictions.
        ignore (ndarray[G]): bool, or [A, G]; crowds are always ignored as well.
    """

    scores: np.ndarray
    iou: np.ndarray
    prediction_areas: np.ndarray
    truth_areas: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray


@dataclass
class Matches:
    """Outcome of one cell.

    Args:
        scores (ndarray[D]): in descending order.
        matched (ndarray[A, T, D]): bool; took a ground truth.
        ignored (ndarray[A, T, D]): bool; counts neither as right nor as wrong.
        positives (ndarray[A]): number of ground truths that count.
    """

    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    positives: np.ndarray


@dataclass(frozen=True)
class Curves:
    """Precision and recall; -1 where a category has no ground truth.

    Args:
        precision (ndarray[T, R, K, A, M]): at each recall threshold.
        recall (ndarray[T, K, A, M]): highest recall reached.
    """

    precision: np.ndarray
    recall: np.ndarray


def match_cell(cell: Cell, area_ranges: np.ndarray, thresholds: np.ndarray) -> Matches:
    """Match the predictions of one cell for all area ranges and thresholds at once.

    Args:
        cell: predictions and ground truth.
        area_ranges (ndarray[A, 2]): smallest and largest area in pixels.
        thresholds (ndarray[T]): IoU thresholds.

    Returns:
        Matches: who took something, and what counts.
    """
    count, low, high = len(cell.scores), area_ranges[:, :1], area_ranges[:, 1:]
    truth_outside = (cell.truth_areas < low) | (cell.truth_areas > high)
    ignore = truth_outside | cell.ignore | cell.crowd  # [A, G]
    shape = (len(area_ranges), len(thresholds), count)
    matched, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    limits = np.minimum(thresholds, 1 - 1e-10)
    free = np.ones((*shape[:2], len(cell.truth_areas)), dtype=bool)
    near = cell.iou >= limits.min()
    for d in np.flatnonzero(near.any(axis=1)):
        candidates = np.flatnonzero(near[d])
        if len(candidates) == 1:  # as for most predictions: nothing to choose from
            g = candidates[0]
            fits = free[:, :, g] & (cell.iou[d, g] >= limits)
            matched[:, :, d], ignored[:, :, d] = fits, fits & ignore[:, g, None]
            free[:, :, g] &= ~fits | cell.crowd[g]
            continue
        fits = free & (cell.iou[d] >= limits[:, None])
        best, found = _last_best(cell.iou[d], fits & ~ignore[:, None])
        spare, spare_found = _last_best(cell.iou[d], fits & ignore[:, None])
        chosen = np.where(found, best, spare)
        matched[:, :, d] = found | spare_found
        ignored[:, :, d] = ~found & spare_found
        a, t = np.nonzero(matched[:, :, d])
        free[a, t, chosen[a, t]] = cell.crowd[chosen[a, t]]
    outside = (cell.prediction_areas < low) | (cell.prediction_areas > high)
    ignored |= ~matched & outside[:, None]
    return Matches(cell.scores, matched, ignored, (~ignore).sum(axis=1))


def accumulate(
    categories: Sequence[Sequence[Matches]],
    num_area_ranges: int,
    *,
    num_thresholds: int = len(IOU_THRESHOLDS),
    limits: Sequence[int] = MAX_DETECTIONS,
) -> Curves:
    """Join the cells of each category into precision-recall curves.

    Args:
        categories: for each of the K categories its cells, in ascending order of the video ids.
        num_area_ranges: A.
        num_thresholds: T.
        limits: M limits of predictions per cell.

    Returns:
        Curves: precision and recall.
    """
    shape = (num_thresholds, len(categories), num_area_ranges, len(limits))
    precision = -np.ones((shape[0], len(RECALL_THRESHOLDS), *shape[1:]))
    recall = -np.ones(shape)
    for k, cells in enumerate(categories):
        for m, limit in enumerate(limits):
            if not cells:
                continue
            scores = np.concatenate([cell.scores[:limit] for cell in cells])
            order = np.argsort(-scores, kind="stable")
            matched = np.concatenate([cell.matched[..., :limit] for cell in cells], 2)[..., order]
            ignored = np.concatenate([cell.ignored[..., :limit] for cell in cells], 2)[..., order]
            positives = np.sum([cell.positives for cell in cells], axis=0)
            for a in np.flatnonzero(positives):
                right = np.cumsum(matched[a] & ~ignored[a], axis=1, dtype=np.float64)
                wrong = np.cumsum(~matched[a] & ~ignored[a], axis=1, dtype=np.float64)
                reached, envelope = _curve(right, wrong, int(positives[a]))
                precision[:, :, k, a, m], recall[:, k, a, m] = envelope, reached
    return Curves(precision, recall)


def mean_defined(values: np.ndarray) -> float:
    """Average the entries that are defined.

    Args:
        values: precision or recall values, -1 where undefined.

    Returns:
        float: -1 if no entry is defined.
    """
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def _last_best(iou: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return index and existence of the highest allowed IoU; of equal ones the last (in [A, T])."""
    values = np.where(allowed, iou, -1.0)[..., ::-1]
    index = values.argmax(axis=-1)
    return allowed.shape[-1] - 1 - index, np.any(allowed, axis=-1)


def _curve(right: np.ndarray, wrong: np.ndarray, positives: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn running counts [T, D] into final recall [T] and precision at the recall thresholds."""
    sampled = np.zeros((len(right), len(RECALL_THRESHOLDS)))
    if not right.shape[1]:
        return np.zeros(len(right)), sampled
    recall = right / positives
    precision = right / (right + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    for t in range(len(right)):
        first = np.searchsorted(recall[t], RECALL_THRESHOLDS, side="left")
        reached = first < recall.shape[1]
        sampled[t, reached] = envelope[t, first[reached]]
    return recall[:, -1], sampled
