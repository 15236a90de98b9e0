"""Cells of one row of AP and AR by scene: its curves, its bins and its resampled numbers.

Dimensions: D predictions, G objects, A area ranges, T IoU thresholds, K categories, M limits of
predictions per cell, S scenes, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from amodal2.evaluation.average_precision import (
    IOU_THRESHOLDS,
    RECALL_THRESHOLDS,
    Cell,
    Curves,
    Matches,
    accumulate,
    match_cell,
)

_CHUNK = 4_000_000
"""Most numbers of one temporary array."""


@dataclass
class SceneCell:
    """Predictions and objects of one scene and category.

    Args:
        scene: id.
        cell: with all ignored objects marked.
        columns (ndarray[G]): positions of its objects in ``APDetails.rates``.
    """

    scene: int
    cell: Cell
    columns: np.ndarray


@dataclass
class APDetails:
    """A sampler (:class:`amodal2.evaluation.resampling.Sampler`) of AP and AR.

    Args:
        scenes: ids of the S scenes, ascending, with those that have no cell.
        cells: for each of the K categories its cells by ascending scene.
        area_ranges: name -> smallest and largest area; the first one is "all".
        limits: M limits of predictions per cell; the last one holds for AP.
        rates: returns the occlusion rates of all objects of the row, NaN where unknown.
        part: whether the row is about a part of the objects of another row.
    """

    scenes: list[int]
    cells: list[list[SceneCell]]
    area_ranges: Mapping[str, tuple[float, float]]
    limits: Sequence[int]
    rates: Callable[[], np.ndarray]
    part: bool = False
    _outcomes: list[_Outcome] | None = field(default=None, init=False, repr=False)

    def curves(self) -> Curves:
        """Return precision and recall for all areas; axes A and M have length 1."""
        area = np.array([next(iter(self.area_ranges.values()))])
        matches = [[match_cell(c.cell, area, IOU_THRESHOLDS) for c in row] for row in self.cells]
        return accumulate(matches, 1, limits=self.limits[-1:])

    def within(self, low: float, high: float) -> APDetails:
        """Return the same row with the objects outside a range of occlusion rates ignored.

        Args:
            low: lowest occlusion rate, included.
            high: highest occlusion rate, included.
        """
        rates = self.rates()
        outside = ~((rates >= low) & (rates <= high))
        cells = [
            [
                replace(one, cell=replace(one.cell, ignore=one.cell.ignore | outside[one.columns]))
                for one in row
            ]
            for row in self.cells
        ]
        return replace(self, cells=cells)

    def by_scene(self) -> dict[int, float]:
        """Return the AP of every scene with objects by itself, in percent."""
        rows: dict[int, list[list[SceneCell]]] = {}
        for row in self.cells:
            for one in row:
                rows.setdefault(one.scene, []).append([one])
        area = dict([next(iter(self.area_ranges.items()))])
        found = {}
        for scene, cells in rows.items():
            alone = replace(self, scenes=[scene], cells=cells, area_ranges=area)
            found[scene] = float(alone.sample(np.ones((1, 1)))["AP"][0])
        return {scene: found[scene] for scene in sorted(found) if not np.isnan(found[scene])}

    def sample(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return AP, AP50, AP75, AR by limit and both by size; see ``Sampler``."""
        if self._outcomes is None:
            position = {scene: i for i, scene in enumerate(self.scenes)}
            ranges = np.array(list(self.area_ranges.values()))
            self._outcomes = [_outcome(row, position, ranges, self.limits) for row in self.cells]
        names = list(self.area_ranges)
        ap = np.full((len(weights), len(self.cells), len(names), len(IOU_THRESHOLDS)), np.nan)
        ar = np.full((*ap.shape, len(self.limits)), np.nan)
        for k, outcome in enumerate(self._outcomes):
            ap[:, k], ar[:, k] = _resample(outcome, weights)
        found = {
            "AP": _mean(ap[:, :, 0]),
            "AP50": _mean(ap[:, :, 0, 0]),
            "AP75": _mean(ap[:, :, 0, 5]),
        }
        for m, limit in enumerate(self.limits):
            found[f"AR{limit}"] = _mean(ar[:, :, 0, :, m])
        for metric, values in (("AP", ap), ("AR", ar[..., -1])):
            for a, name in enumerate(names[1:], start=1):
                found[f"{metric}{name[0]}"] = _mean(values[:, :, a])
        return found


@dataclass
class _Outcome:
    """Matches of one category over all scenes.

    Args:
        scenes (ndarray[D]): position of the scene of each prediction, by descending score.
        matched (ndarray[A, T, D]): counts as right.
        wrong (ndarray[A, T, D]): counts as wrong.
        found (ndarray[S, A, T, M]): right ones of each scene.
        positives (ndarray[S, A]): objects that count.
    """

    scenes: np.ndarray
    matched: np.ndarray
    wrong: np.ndarray
    found: np.ndarray
    positives: np.ndarray


def _outcome(
    row: list[SceneCell], position: dict[int, int], ranges: np.ndarray, limits: Sequence[int]
) -> _Outcome:
    shape = (len(ranges), len(IOU_THRESHOLDS))
    found = np.zeros((len(position), *shape, len(limits)))
    positives = np.zeros((len(position), len(ranges)))
    parts: list[Matches] = []
    for one in row:
        matches = match_cell(one.cell, ranges, IOU_THRESHOLDS)
        right = matches.matched & ~matches.ignored
        for m, limit in enumerate(limits):
            found[position[one.scene], ..., m] += right[..., :limit].sum(axis=2)
        positives[position[one.scene]] += matches.positives
        parts.append(matches)
    limit = limits[-1]
    scores = np.concatenate([np.zeros(0), *(one.scores[:limit] for one in parts)])
    order = np.argsort(-scores, kind="stable")
    scenes = np.repeat(
        np.array([position[one.scene] for one in row], dtype=np.int64),
        np.array([min(limit, len(one.scores)) for one in parts], dtype=np.int64),
    )
    empty = np.zeros((*shape, 0), dtype=bool)
    matched = np.concatenate([empty, *(one.matched[..., :limit] for one in parts)], 2)[..., order]
    ignored = np.concatenate([empty, *(one.ignored[..., :limit] for one in parts)], 2)[..., order]
    return _Outcome(scenes[order], matched & ~ignored, ~matched & ~ignored, found, positives)


def _resample(outcome: _Outcome, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return AP [R, A, T] and recall [R, A, T, M] of one category; NaN without objects."""
    positives = weights @ outcome.positives
    found = np.tensordot(weights, outcome.found, axes=1)
    divisor = np.where(positives > 0, positives, np.nan)
    recall = found / divisor[:, :, None, None]
    ap = np.full(found.shape[:3], np.nan)
    step = max(1, _CHUNK // max(1, len(outcome.scenes)))
    for start in range(0, len(weights), step):
        part = slice(start, start + step)
        drawn = weights[part][:, outcome.scenes]
        total = drawn.cumsum(axis=1)
        for a, t in np.ndindex(ap.shape[1:]):
            ignored = ~outcome.matched[a, t] & ~outcome.wrong[a, t]
            ap[part, a, t] = _average_precision(
                drawn, total, outcome.matched[a, t], ignored, divisor[part, a]
            )
    return ap, recall


def _average_precision(
    drawn: np.ndarray,
    total: np.ndarray,
    right: np.ndarray,
    ignored: np.ndarray,
    positives: np.ndarray,
) -> np.ndarray:
    """Return AP [R] of predictions that were drawn [R, D] times, ``total`` up to each of them.

    Between two right predictions precision only falls, so that the curve is known from the right
    ones; each of them holds for the recall thresholds that it is the first to reach.
    """
    defined = np.where(np.isnan(positives), np.nan, 0.0)
    places = np.flatnonzero(right)
    if not len(places):
        return defined
    hits = drawn[:, places].cumsum(axis=1, dtype=np.float64)
    counted = total[:, places]
    passed = np.flatnonzero(ignored)
    if len(passed):
        without = np.pad(drawn[:, passed].cumsum(axis=1), ((0, 0), (1, 0)))
        counted = counted - without[:, np.searchsorted(passed, places)]
    precision = hits / (counted + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALL_THRESHOLDS, hits / positives[:, None], side="right")
    share = np.diff(reached, axis=1, prepend=0)
    return defined + (envelope * share).sum(axis=1) / len(RECALL_THRESHOLDS)


def _mean(values: np.ndarray) -> np.ndarray:
    """Average the defined fractions of each resample, in percent."""
    flat = values.reshape(len(values), -1)
    defined = ~np.isnan(flat)
    count = defined.sum(axis=1)
    total = np.where(defined, flat, 0.0).sum(axis=1)
    return 100 * total / np.where(count > 0, count, np.nan)
