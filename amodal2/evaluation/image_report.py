"""Results of an image evaluation: a table to read, JSON and CSV to store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amodal2.evaluation.report import MAIN_COLUMNS, APScores, format_table
from amodal2.utils.files import atomic_write, write_json


@dataclass
class ImageReport:
    """Everything that one evaluation of image predictions found out.

    Args:
        protocol: by whose rules the numbers were computed.
        rows: name of the row -> its scores.
        absent: name of a row that could not be scored -> why ("not predicted"); never a 0.
        counts: what was compared: images, objects, predictions.
        notes: warnings, each a sentence with its number of cases.
    """

    protocol: str
    rows: dict[str, APScores]
    absent: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the table, preceded by protocol and counts and followed by the notes."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        absent = [f"{name}: {reason}" for name, reason in self.absent.items()]
        notes = [f"note: {note}" for note in self.notes]
        head = f"protocol: {self.protocol}"
        return "\n".join(
            [head, counts, format_table(self.percent(), self._columns()), *absent, *notes]
        )

    def percent(self) -> dict[str, dict[str, float]]:
        """Return the defined metrics of every row in percent."""
        return {name: scores.percent() for name, scores in self.rows.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict: protocol, the rows in percent, absent rows, counts, notes."""
        return {
            "unit": "percent",
            "protocol": self.protocol,
            "results": {name: scores.to_dict() for name, scores in self.rows.items()},
            "absent": self.absent,
            "counts": self.counts,
            "notes": self.notes,
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the report as JSON text and write it if a path is given.

        Args:
            path: file that appears only when it is complete.
        """
        if path is not None:
            write_json(path, self.to_dict(), indent=1)
        return json.dumps(self.to_dict(), indent=1)

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return one line per row as CSV text, in percent, and write it if a path is given.

        Args:
            path: file that appears only when it is complete.
        """
        return write_csv(
            {f"{self.protocol}/{name}": row for name, row in self.percent().items()},
            self._columns(),
            path,
        )

    def _columns(self) -> list[str]:
        defined = (name for metrics in self.percent().values() for name in metrics)
        return list(dict.fromkeys([*MAIN_COLUMNS, *defined]))


def write_csv(
    rows: Mapping[str, Mapping[str, float]], columns: Sequence[str], path: str | Path | None
) -> str:
    """Return a table as CSV text and write it if a path is given.

    Args:
        rows: name of the row -> metric name -> value; a metric that a row lacks is an empty cell.
        columns: metric names.
        path: file that appears only when it is complete; None writes nothing.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["row", *columns])
    for name, metrics in rows.items():
        writer.writerow([name, *[metrics.get(column, "") for column in columns]])
    if path is not None:
        with atomic_write(path) as temporary:
            temporary.write_text(buffer.getvalue(), encoding="utf-8")
    return buffer.getvalue()
