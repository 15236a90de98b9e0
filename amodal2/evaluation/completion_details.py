"""Pixel counts of completed masks by scene, scored again with weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from amodal2.evaluation.completion_measure import Measures
from amodal2.evaluation.completion_variants import CompletionScores
from amodal2.evaluation.report import UNDEFINED


class CompletionDetails:
    """A sampler (:class:`amodal2.evaluation.resampling.Sampler`) of one protocol.

    Attributes:
        scenes: ids of the videos or images with judged object-frames, ascending.
    """

    def __init__(self, measures: Measures, rule: Callable[[Measures], CompletionScores]) -> None:
        """Take the counts.

        Args:
            measures: of all object-frames.
            rule: of the protocol.
        """
        self.measures = measures
        self._rule = rule
        scenes, numbers = np.unique(measures.scenes, return_inverse=True)
        self.scenes: list[int] = scenes.tolist()
        self._places = [np.flatnonzero(numbers == i) for i in range(len(scenes))]

    def sample(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the metrics of the protocol; see ``Sampler``."""
        names = list(self._rule(self.measures).values)
        found = {name: np.full(len(weights), np.nan) for name in names}
        for r, row in enumerate(weights):
            for name, value in self._rule(self._drawn(row)).values.items():
                if value != UNDEFINED:
                    found[name][r] = 100 * value
        return found

    @property
    def main_metric(self) -> str:
        """Return the name of the first metric of the protocol."""
        return next(iter(self._rule(self.measures).values))

    def by_scene(self) -> dict[int, float]:
        """Return the first metric of the protocol of every scene by itself, in percent."""
        alone = np.eye(len(self.scenes), dtype=np.int64)
        values = self.sample(alone)[self.main_metric].tolist()
        return {s: v for s, v in zip(self.scenes, values, strict=True) if not np.isnan(v)}

    def _drawn(self, weights: np.ndarray) -> Measures:
        """Return the object-frames of the drawn scenes, each draw as a scene of its own."""
        chosen = np.repeat(np.arange(len(weights)), weights)
        parts = [self._places[i] for i in chosen]
        places = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
        copy = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        one = self.measures
        objects = one.objects[places] + copy * (int(one.objects.max(initial=0)) + 1)
        return replace(one.take(places), objects=objects, scenes=copy)
