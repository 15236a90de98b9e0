"""What every report can do: become JSON or CSV, as text and as a file."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal2.evaluation.report_csv import Number, write_numbers
from amodal2.utils.files import write_json


class Report(ABC):
    """Results that print as tables and can be written."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""

    @abstractmethod
    def numbers(self) -> Iterator[Number]:
        """Yield the defined metrics with their protocols."""

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
