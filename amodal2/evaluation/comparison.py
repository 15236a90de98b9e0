"""Two predictions of the same ground truth: how much they differ, and how sure that is.

The scenes (videos or images) are drawn with replacement, the same ones for both predictions (paired
bootstrap); the interval holds the middle 95 % of the differences. It covers the choice of scenes,
not the chance in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from amodal2.evaluation.resampling import Sampler, draw_weights
from amodal2.utils.files import write_json

RESAMPLES = 1000
SEED = 0
INTERVAL_PERCENT = 95.0

RowKey = tuple[str, str]
"""Protocol and name of a row."""


@dataclass(frozen=True)
class Difference:
    """One metric of both predictions, in percent (or a number of cases).

    Args:
        protocol: by whose rules.
        row: what was compared.
        metric: name.
        first: of A.
        second: of B.
        low: lower end of the interval of B - A; NaN where no resample defines it.
        high: upper end.
    """

    protocol: str
    row: str
    metric: str
    first: float
    second: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Return B - A."""
        return self.second - self.first

    @property
    def clear(self) -> bool:
        """Tell whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass
class Comparison:
    """All metrics that both predictions have.

    Args:
        differences: by row and metric.
        scenes: number of videos or images that were drawn from.
        resamples: how often.
        seed: of the draws.
        notes: what could not be compared.
    """

    differences: list[Difference]
    scenes: int
    resamples: int
    seed: int
    notes: list[str] = field(default_factory=list)

    def method(self) -> str:
        """Describe the intervals."""
        return (
            f"B - A with {INTERVAL_PERCENT:g} % intervals: paired bootstrap over {self.scenes} "
            f"scenes, {self.resamples} resamples, seed {self.seed}"
        )

    def __str__(self) -> str:
        """Return one table per protocol, preceded by the method; * marks intervals without 0."""
        lines = [self.method()]
        for protocol in dict.fromkeys(one.protocol for one in self.differences):
            own = [one for one in self.differences if one.protocol == protocol]
            width = max(len(one.row) for one in own)
            lines += ["", f"protocol: {protocol}"]
            lines += [
                f"{one.row:<{width}}  {one.metric:<9}{one.first:8.2f}{one.second:8.2f}"
                f"{one.difference:+8.2f}  [{one.low:+.2f}, {one.high:+.2f}]{' *' * one.clear}"
                for one in own
            ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict; ends of intervals that are undefined are null."""
        rows = [
            {
                key: None if isinstance(value, float) and np.isnan(value) else value
                for key, value in {**asdict(one), "difference": one.difference}.items()
            }
            for one in self.differences
        ]
        return {
            "unit": "percent",
            "interval_percent": INTERVAL_PERCENT,
            "scenes": self.scenes,
            "resamples": self.resamples,
            "seed": self.seed,
            "differences": rows,
            "notes": self.notes,
        }

    def to_json(self, path: str | Path) -> None:
        """Write the comparison.

        Args:
            path: file that appears only when it is complete.
        """
        write_json(path, self.to_dict(), indent=1)


def compare(
    first: Mapping[RowKey, Sampler],
    second: Mapping[RowKey, Sampler],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Comparison:
    """Compare two predictions row by row.

    Args:
        first: the samplers of A's report.
        second: those of B's report on the same ground truth.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        Comparison: the metrics that are defined for both.

    Raises:
        ValueError: if there is no draw, no common row, or the scenes differ.
    """
    shared = [key for key in first if key in second]
    if resamples < 1 or not shared:
        raise ValueError(
            "compare: expected at least one resample and a row that both reports have, got "
            f"{resamples} resamples, rows {sorted(first)} and {sorted(second)}"
        )
    notes = [
        f"{row} ({protocol}): only in {name}"
        for name, own, other in (("A", first, second), ("B", second, first))
        for protocol, row in own
        if (protocol, row) not in other
    ]
    differences: list[Difference] = []
    scenes = first[shared[0]].scenes
    if scenes:
        weights = np.concatenate(
            [np.ones((1, len(scenes)), dtype=np.int64), draw_weights(len(scenes), resamples, seed)]
        )
        for key in shared:
            if not first[key].scenes == second[key].scenes == scenes:
                raise ValueError(
                    f"compare: expected the same {len(scenes)} scenes in both reports, got "
                    f"{len(first[key].scenes)} and {len(second[key].scenes)} in row {key[1]}"
                )
            differences += _differences(
                key, first[key].sample(weights), second[key].sample(weights)
            )
    return Comparison(differences, len(scenes), resamples, seed, notes)


def _differences(
    key: RowKey, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> list[Difference]:
    """Return the metrics whose first value, that of all scenes, is defined."""
    found = []
    for metric, a in first.items():
        b = second[metric]
        if np.isnan(a[0]) or np.isnan(b[0]):
            continue
        drawn = (b - a)[1:]
        drawn = drawn[~np.isnan(drawn)]
        tail = (100 - INTERVAL_PERCENT) / 2
        low, high = np.percentile(drawn, [tail, 100 - tail]) if len(drawn) else (np.nan, np.nan)
        found.append(Difference(*key, metric, float(a[0]), float(b[0]), float(low), float(high)))
    return found
