"""Results of an evaluation that a person can read and a program can store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amodal2.utils.files import write_json

UNDEFINED = -1.0
"""Value of a metric without any ground truth that counts, as in the COCO tools."""

MAIN_COLUMNS = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")
"""Metrics that every table shows, defined or not."""


@dataclass
class APScores:
    """Average precision and recall of one kind of mask over one set of ground truth.

    Args:
        stats: metric name -> fraction in [0, 1], -1 where undefined. Names: AP (mean over the IoU
            thresholds .5 to .95), AP50, AP75, APs, APm, APl (by mean area of a tube), AR1, AR10,
            AR100 (limits of predictions per video and category), ARs, ARm, ARl.
        per_category: category name -> AP, -1 where undefined.
    """

    stats: dict[str, float]
    per_category: dict[str, float] = field(default_factory=dict)

    def percent(self) -> dict[str, float]:
        """Return the defined metrics in percent; an undefined one is absent."""
        return _percent(self.stats)

    def to_dict(self) -> dict[str, Any]:
        """Return percentages of the defined metrics and of the defined categories."""
        return {**self.percent(), "per_category": _percent(self.per_category)}


@dataclass
class VideoAPReport:
    """Everything that one evaluation of video predictions found out.

    Args:
        rows: name of the task -> its scores. A kind of mask that was not predicted, or that the
            ground truth does not have, has no row.
        counts: what was compared: videos, tracks, predictions.
        notes: warnings, each a sentence with its number of cases.
    """

    rows: dict[str, APScores]
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the table, preceded by what was compared and followed by the notes."""
        head = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        rows = {name: scores.percent() for name, scores in self.rows.items()}
        defined = (name for metrics in rows.values() for name in metrics)
        table = format_table(rows, list(dict.fromkeys([*MAIN_COLUMNS, *defined])))
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([*([head] if head else []), table, *notes])

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict: the rows in percent, then ``counts`` and ``notes``."""
        rows: dict[str, Any] = {name: scores.to_dict() for name, scores in self.rows.items()}
        return {"unit": "percent", "results": rows, "counts": self.counts, "notes": self.notes}

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the report as JSON text and write it if a path is given.

        Args:
            path: file that appears only when it is complete.
        """
        if path is not None:
            write_json(path, self.to_dict(), indent=1)
        return json.dumps(self.to_dict(), indent=1)


def format_table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    """Lay out metrics in percent as text with aligned columns.

    Args:
        rows: name of the row -> metric name -> percent.
        columns: metric names.

    Returns:
        str: lines without a final newline; "-" marks a metric that a row does not have.
    """
    lines = [["task (%)", *columns]]
    for name, metrics in rows.items():
        values = [f"{metrics[column]:.2f}" if column in metrics else "-" for column in columns]
        lines.append([name, *values])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _percent(fractions: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * value for name, value in fractions.items() if value != UNDEFINED}
