"""Results of an image evaluation: a table to read, JSON and CSV to store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from amodal2.evaluation.report import MAIN_COLUMNS, APScores, ap_numbers, format_table
from amodal2.evaluation.report_base import Report
from amodal2.evaluation.report_csv import Number
from amodal2.evaluation.resampling import Sampler


@dataclass
class ImageReport(Report):
    """Everything that one evaluation by a named protocol found out.

    Attributes:
        task: the task that the numbers belong to.
        main_columns: metrics that the table shows, defined or not.

    Args:
        protocol: by whose rules the numbers were computed.
        rows: name of the row -> its scores.
        absent: name of a row that could not be scored -> why ("not predicted"); never a 0.
        counts: what was compared: images, objects, predictions.
        notes: warnings, each a sentence with its number of cases.
        description: what the protocol is.
        samplers: protocol and name of a row -> what its numbers come from; not stored. Rows whose
            predictions are sorted into bins as well have none.
    """

    task: ClassVar[str] = "image"
    main_columns: ClassVar[Sequence[str]] = MAIN_COLUMNS

    protocol: str
    rows: dict[str, APScores]
    absent: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    description: str = ""
    samplers: dict[tuple[str, str], Sampler] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __str__(self) -> str:
        """Return the table, preceded by protocol and counts and followed by the notes."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        absent = [f"{name}: {reason}" for name, reason in self.absent.items()]
        notes = [f"note: {note}" for note in self.notes]
        head = f"protocol: {self.protocol}"
        return "\n".join(
            [head, counts, format_table(self.percent(), self.columns()), *absent, *notes]
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

    def numbers(self) -> Iterator[Number]:
        """Yield the defined metrics with their protocol."""
        for row, scores in self.rows.items():
            yield from ap_numbers(self.task, self.protocol, row, scores)

    def legend(self) -> dict[str, str]:
        """Return the description."""
        return {self.protocol: self.description}

    def columns(self) -> list[str]:
        """Return the metrics of the table: the usual ones, and all others that are defined."""
        defined = (name for metrics in self.percent().values() for name in metrics)
        return list(dict.fromkeys([*self.main_columns, *defined]))


@dataclass
class ImageReports(Report):
    """Reports of the same predictions by several protocols, side by side.

    Args:
        reports: one per protocol.
    """

    reports: list[ImageReport]

    @property
    def counts(self) -> dict[str, int]:
        """Return what was compared, the same in all reports."""
        return self.reports[0].counts

    @property
    def notes(self) -> list[str]:
        """Return the notes of all reports and the reasons for absent rows, each once."""
        notes = [note for report in self.reports for note in report.notes]
        absent = [
            f"{name} ({report.protocol}): {reason}"
            for report in self.reports
            for name, reason in report.absent.items()
        ]
        return list(dict.fromkeys([*notes, *absent]))

    @property
    def samplers(self) -> dict[tuple[str, str], Sampler]:
        """Return the samplers of all reports."""
        return {key: one for report in self.reports for key, one in report.samplers.items()}

    def legend(self) -> dict[str, str]:
        """Return the descriptions of all reports."""
        return {key: text for report in self.reports for key, text in report.legend().items()}

    def __str__(self) -> str:
        """Return the tables one after the other."""
        return "\n\n".join(map(str, self.reports))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict: ``reports`` is the list of the reports' dicts."""
        return {"unit": "percent", "reports": [report.to_dict() for report in self.reports]}

    def numbers(self) -> Iterator[Number]:
        """Yield the defined metrics of all reports with their protocols."""
        for report in self.reports:
            yield from report.numbers()
