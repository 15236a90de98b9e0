"""The CSV form of all reports: one number per line, with everything that says what it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from amodal2.utils.files import atomic_write


class Number(NamedTuple):
    """One line.

    Args:
        task: ``image``, ``video`` or ``completion``.
        protocol: by whose rules the number came about.
        row: what was compared, e.g. ``visible`` or ``amodal/cocoa/heavy``.
        group: ``mean`` over the categories for AP, the name of an average for tracking metrics,
            ``category`` for a single one.
        category: its name, else empty.
        metric: name.
        value: percent, or a number of cases.
    """

    task: str
    protocol: str
    row: str
    group: str
    category: str
    metric: str
    value: float


def write_numbers(numbers: Iterable[Number], path: str | Path | None = None) -> str:
    """Return numbers as CSV text with a head line and write it if a path is given.

    Args:
        numbers: the lines; undefined metrics have none.
        path: file that appears only when it is complete; None writes nothing.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Number._fields)
    writer.writerows(numbers)
    if path is not None:
        with atomic_write(path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
    return text.getvalue()
