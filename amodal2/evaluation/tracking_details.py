"""Counts of one row of tracking metrics by video, joined again with weights.

Dimensions: R resamples, S videos, F numbers of a ``TrackingCounts``.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from amodal2.evaluation.report import TRACKING_COLUMNS, TRACKING_FRACTIONS
from amodal2.evaluation.tracking_counts import ALPHAS, TrackingCounts
from amodal2.evaluation.video_cells import Key

METRICS = tuple(dict.fromkeys([*TRACKING_FRACTIONS, *TRACKING_COLUMNS]))


@dataclass
class TrackingDetails:
    """A sampler (:class:`amodal2.evaluation.resampling.Sampler`) of tracking metrics.

    Args:
        scenes: ids of the S videos, ascending.
        counts: category, video and counts of each cell.
    """

    scenes: list[int]
    counts: list[tuple[Key, int, TrackingCounts]]

    def sample(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Average over the classes that have ground truth in the resample; see ``Sampler``.

        Only the fractions and the metrics of the table are computed.
        """
        position = {scene: i for i, scene in enumerate(self.scenes)}
        fractions = {name: np.zeros(len(weights)) for name in METRICS}
        classes = np.zeros(len(weights))
        for key in dict.fromkeys(key for key, _, _ in self.counts):
            own = [(position[scene], one) for k, scene, one in self.counts if k == key]
            table = np.stack([_to_vector(one) for _, one in own])
            for r, vector in enumerate(weights[:, [place for place, _ in own]] @ table):
                total = _from_vector(vector)
                if not total.truth:
                    continue
                classes[r] += 1
                stats = total.stats()
                for name in METRICS:
                    fractions[name][r] += stats[name]
        with np.errstate(invalid="ignore"):
            return {
                name: 100 * values / classes
                if name in TRACKING_FRACTIONS
                else np.where(classes > 0, values, np.nan)
                for name, values in fractions.items()
            }


def _to_vector(counts: TrackingCounts) -> np.ndarray:
    return np.concatenate(
        [np.atleast_1d(getattr(counts, one.name)).astype(np.float64) for one in fields(counts)]
    )


def _from_vector(vector: np.ndarray) -> TrackingCounts:
    values: dict[str, Any] = {}
    start = 0
    for one in fields(TrackingCounts):
        if one.default_factory is not MISSING:
            values[one.name], start = vector[start : start + len(ALPHAS)], start + len(ALPHAS)
        else:
            values[one.name], start = vector[start], start + 1
    return TrackingCounts(**values)
