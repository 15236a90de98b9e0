"""What every report can do: explain itself, become JSON or CSV, as text and as a file."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal2.evaluation.report_csv import Number, write_numbers
from amodal2.utils.files import write_json


@dataclass
class Highlight:
    """A table that puts numbers of several protocols together.

    Args:
        title: headline.
        source: by whose rules the numbers came about.
        rows: name of the row -> metric name -> percent, or number of cases.
    """

    title: str
    source: str
    rows: Mapping[str, Mapping[str, float]]


class Report(ABC):
    """Results that print as tables and can be written."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""

    @abstractmethod
    def numbers(self) -> Iterator[Number]:
        """Yield the defined metrics with their protocols."""

    def legend(self) -> dict[str, str]:
        """Return what a reader must know about the protocols: protocol -> sentences."""
        return {}

    def highlights(self) -> list[Highlight]:
        """Return tables that put numbers of several protocols together."""
        return []

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the report as JSON text and write it if a path is given.

        Args:
            path: file that appears only when it is complete.
        """
        if path is not None:
            write_json(path, self.to_dict(), indent=1)
        return json.dumps(self.to_dict(), indent=1)

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return the report as CSV text, one number per line, and write it if a path is given.

        Args:
            path: file that appears only when it is complete.
        """
        return write_numbers(self.numbers(), path)
