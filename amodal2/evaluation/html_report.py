"""A report as one HTML file that needs no network: tables, charts, cases and a comparison."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Protocol

from amodal2.evaluation.ap_charts import occlusion_chart, recall_chart
from amodal2.evaluation.ap_details import APDetails
from amodal2.evaluation.comparison import Comparison, RowKey
from amodal2.evaluation.report import TRACKING_COLUMNS
from amodal2.evaluation.report_base import Highlight
from amodal2.evaluation.report_csv import Number
from amodal2.evaluation.resampling import Sampler
from amodal2.evaluation.svg_chart import STYLE
from amodal2.utils.files import atomic_write

_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#222;max-width:1240px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;margin:.5em 0 1em;font-variant-numeric:tabular-nums}
th,td{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:right}
th:first-child,td:first-child{text-align:left;white-space:nowrap}
summary{cursor:pointer;margin:.3em 0 1em}h3{margin-bottom:.2em}h3+.note{margin-top:0;max-width:75em}
th{background:#f4f4f4}.clear{font-weight:bold}.scroll{overflow-x:auto}
.charts{display:flex;flex-wrap:wrap;gap:1em}.note{color:#666}figure{margin:0 0 1.2em}
img{max-width:100%}
"""


class Report(Protocol):
    """What the reports of all tasks have in common."""

    @property
    def counts(self) -> dict[str, int]:
        """What was compared."""

    @property
    def notes(self) -> list[str]:
        """Warnings."""

    @property
    def samplers(self) -> dict[RowKey, Sampler]:
        """What the numbers come from."""

    def numbers(self) -> Iterator[Number]:
        """Yield the defined metrics."""

    def legend(self) -> dict[str, str]:
        """Return what a reader must know about the protocols."""

    def highlights(self) -> list[Highlight]:
        """Return tables that put numbers of several protocols together."""


@dataclass
class Picture:
    """One case.

    Args:
        caption: what it is.
        jpeg: its bytes.
    """

    caption: str
    jpeg: bytes


def write_html(
    path: str | Path,
    title: str,
    report: Report | None = None,
    *,
    pictures: Sequence[Picture] = (),
    comparison: Comparison | None = None,
) -> None:
    """Write a report, a comparison, or both.

    Args:
        path: file that appears only when it is complete.
        title: headline.
        report: tables and charts.
        pictures: best and worst cases.
        comparison: differences of two predictions.
    """
    body = [f"<h1>{escape(title)}</h1>"]
    if comparison is not None:
        body += ["<h2>Comparison</h2>", *_comparison(comparison)]
    if report is not None:
        counts = ", ".join(f"{count} {name}" for name, count in report.counts.items())
        body += [f"<p>{escape(counts)}</p>", "<h2>Results</h2>", *_tables(report)]
        body += map(_highlight, report.highlights())
        body += [_notes(report.notes), *_charts(report.samplers)]
    if pictures:
        body += ["<h2>Best and worst cases</h2>", *map(_picture, pictures)]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}{STYLE}</style>'
    text = f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>'
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _tables(report: Report) -> Iterator[str]:
    """Yield for each protocol a table of its rows, and folded what else there is."""
    numbers, legend = list(report.numbers()), report.legend()
    for protocol in dict.fromkeys(one.protocol for one in numbers):
        own = [one for one in numbers if one.protocol == protocol]
        yield f"<h3>Protocol: {escape(protocol)}</h3>"
        if legend.get(protocol):
            yield f'<p class="note">{escape(legend[protocol])}</p>'
        first = {one.row: one.group for one in reversed(own) if one.group != "category"}
        main: dict[str, dict[str, Number]] = {}
        rest: dict[str, dict[str, Number]] = {}
        parts: dict[str, dict[str, Number]] = {}
        tracking = any(one.metric == TRACKING_COLUMNS[0] for one in own)
        for one in own:
            if one.group == "category":
                parts.setdefault(f"{one.row}: {one.category}", {})[one.metric] = one
                continue
            if one.group == first[one.row] and (not tracking or one.metric in TRACKING_COLUMNS):
                main.setdefault(one.row, {})[one.metric] = one
            if tracking:
                rest.setdefault(f"{one.row} ({one.group})", {})[one.metric] = one
        columns = [name for name in TRACKING_COLUMNS if tracking]
        yield _table(main, columns)
        if rest:
            yield f"<details><summary>All averages and metrics</summary>{_table(rest)}</details>"
        if parts:
            yield f"<details><summary>By category</summary>{_table(parts)}</details>"


def _highlight(table: Highlight) -> str:
    rows = {
        name: {
            metric: Number("", "", name, "mean", "", metric, value) for metric, value in row.items()
        }
        for name, row in table.rows.items()
    }
    source = f'<p class="note">{escape(table.source)}</p>'
    return f"<h3>{escape(table.title)}</h3>{source}{_table(rows)}"


def _table(rows: dict[str, dict[str, Number]], columns: Sequence[str] = ()) -> str:
    found = [metric for row in rows.values() for metric in row]
    names = columns or list(dict.fromkeys(found))
    head = "".join(f"<th>{escape(column)}</th>" for column in names)
    lines = []
    for name, row in rows.items():
        cells = (f"<td>{_value(row.get(column))}</td>" for column in names)
        lines.append(f"<tr><td>{escape(name)}</td>{''.join(cells)}</tr>")
    table = f"<table><tr><th>row (%)</th>{head}</tr>{''.join(lines)}</table>"
    return f'<div class="scroll">{table}</div>'


def _value(number: Number | None) -> str:
    if number is None:
        return "-"
    return str(number.value) if isinstance(number.value, int) else f"{number.value:.2f}"


def _charts(samplers: dict[RowKey, Sampler]) -> Iterator[str]:
    charts = {
        "Precision over recall": recall_chart,
        "AP and AR by occlusion rate (objects of other rates are ignored)": occlusion_chart,
    }
    rows = {k: one for k, one in samplers.items() if isinstance(one, APDetails) and not one.part}
    for title, draw in charts.items():
        parts = []
        for protocol in dict.fromkeys(protocol for protocol, _ in rows):
            drawn = [draw(row, one) for (own, row), one in rows.items() if own == protocol]
            if any(drawn):
                parts.append(f"<h3>Protocol: {escape(protocol)}</h3>")
                parts.append(f'<div class="charts">{"".join(drawn)}</div>')
        if parts:
            yield f"<h2>{title}</h2>{''.join(parts)}"


def _comparison(comparison: Comparison) -> Iterator[str]:
    yield f"<p>{escape(comparison.method())}. Bold: the interval leaves 0 out.</p>"
    for protocol in dict.fromkeys(one.protocol for one in comparison.differences):
        yield f"<h3>Protocol: {escape(protocol)}</h3>"
        lines = []
        for one in comparison.differences:
            if one.protocol != protocol:
                continue
            numbers = f"<td>{one.first:.2f}</td><td>{one.second:.2f}</td>"
            interval = f"<td>{one.difference:+.2f}</td><td>[{one.low:+.2f}, {one.high:+.2f}]</td>"
            lines.append(
                f"<tr{' class=clear' if one.clear else ''}><td>{escape(one.row)}</td>"
                f"<td>{escape(one.metric)}</td>{numbers}{interval}</tr>"
            )
        head = "<th>row</th><th>metric</th><th>A</th><th>B</th><th>B - A</th><th>interval</th>"
        yield f"<table><tr>{head}</tr>{''.join(lines)}</table>"
    yield _notes(comparison.notes)


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">note: {escape(note)}</p>' for note in notes)


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.jpeg).decode("ascii")
    caption = escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/jpeg;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
