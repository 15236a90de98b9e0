"""The aquarium's result table as markdown, JSON and a chart, from the files of the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.aquarium_variants import Variant

from amodal2.utils.files import atomic_write, write_json

METRICS = ("AP", "AR1", "HOTA", "DetA", "IDF1", "IDSW")
ROWS = {
    "visible": "Visible masks",
    "amodal": "Amodal masks",
    "visible_lt50": "Visible masks, tracks hidden by at most half",
    "visible_gt50": "Visible masks, tracks hidden by more than half",
    "amodal_lt50": "Amodal masks, tracks hidden by at most half",
    "amodal_gt50": "Amodal masks, tracks hidden by more than half",
}
QUESTIONS = (
    ("Does A2VIS beat GenVIS-Amodal?", "a2vis", "genvis_amodal"),
    ("Does A2VIS beat VITA-Amodal?", "a2vis", "vita_amodal"),
    ("Does VSPM help beside ASPM?", "a2vis", "a2vis_no_vspm"),
    ("Does ASPM help beside VSPM?", "a2vis", "a2vis_no_aspm"),
    ("Do both help?", "a2vis", "a2vis_neither"),
)
"""Question, the row that should be better, the row it is compared with; by amodal AP."""


@dataclass(frozen=True)
class Value:
    """A number over seeds.

    Args:
        mean: over the seeds.
        low: the least.
        high: the greatest.
        count: seeds.
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        """Return the mean, and half the range where there are several seeds."""
        spread = f" ± {(self.high - self.low) / 2:.1f}" if self.count > 1 else ""
        return f"{self.mean:.1f}{spread}"


def summarise(numbers: Iterable[float | None]) -> Value | None:
    """Return mean and range of the numbers that there are; None if there are none."""
    found = [float(x) for x in numbers if x is not None]
    if not found:
        return None
    return Value(sum(found) / len(found), min(found), max(found), len(found))


def read_results(names: Sequence[str], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read the complete runs of each row.

    Args:
        names: of the rows of the table.
        folder: with one JSON per run.

    Returns:
        dict: name of the row -> its runs by seed; rows without one are absent.
    """
    found = {}
    for name in names:
        files = sorted(folder.glob(f"{name}_seed*.json"))
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in files]
        if runs:
            found[name] = sorted(runs, key=lambda run: run["seed"])
    return found


def answer(
    results: dict[str, list[dict[str, Any]]],
    better: str,
    other: str,
    row: str = "amodal",
    metric: str = "AP",
) -> str:
    """Compare a metric, the amodal AP, of two rows.

    Args:
        results: from :func:`read_results`.
        better: row that should have more.
        other: row it is compared with.
        row: of the metrics.
        metric: in percent.

    Returns:
        str: yes or no only where the ranges over the seeds do not meet and there are two seeds.
    """
    values = [value_of(results.get(name, []), row, metric) for name in (better, other)]
    ours, theirs = values
    if ours is None or theirs is None:
        return "not known yet"
    text = f"{ours.mean - theirs.mean:+.1f} {row} {metric} ({ours} against {theirs})"
    if min(ours.count, theirs.count) < 2:
        return f"one seed alone does not say: {text}"
    if ours.low > theirs.high:
        return f"yes: {text}"
    if ours.high < theirs.low:
        return f"no: {text}"
    return f"not told apart by {ours.count} seeds: {text}"


def write_report(variants: Sequence[Variant], out: Path, notes: Sequence[str]) -> str:
    """Write ``table.md``, ``table.json`` and ``table.svg`` from the runs that are complete.

    Args:
        variants: rows in the order of the table.
        out: folder that holds ``results``.
        notes: lines above the table.

    Returns:
        str: the markdown.
    """
    results = read_results([variant.name for variant in variants], out / "results")
    shown = [variant for variant in variants if variant.name in results]
    lines = ["# Results on the aquarium", "", *notes, ""]
    lines += [f"- {ask} {answer(results, better, other)}" for ask, better, other in QUESTIONS]
    lines += ["", *_cost_table(shown, results)]
    for row, title in ROWS.items():
        lines += ["", f"## {title}", "", *_metric_table(shown, results, row)]
    text = "\n".join(lines) + "\n"
    with atomic_write(out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_json(out / "table.json", results, indent=1)
    with atomic_write(out / "table.svg") as temporary:
        temporary.write_text(draw_bars(shown, results), encoding="utf-8")
    return text


def draw_bars(
    variants: Sequence[Variant], results: dict[str, list[dict[str, Any]]], metric: str = "AP"
) -> str:
    """Draw visible and amodal bars of every row, with a line from the least seed to the greatest.

    Args:
        variants: rows from top to bottom.
        results: from :func:`read_results`.
        metric: in percent.

    Returns:
        str: an ``svg`` element.
    """
    parts, y = [], 30
    for variant in variants:
        parts.append(f'<text x="4" y="{y + 15}">{escape(variant.title)}</text>')
        for kind, color in (("visible", "#0072b2"), ("amodal", "#d55e00")):
            value = value_of(results[variant.name], kind, metric)
            if value is not None:
                start, low, high = (220 + 4 * x for x in (0.0, value.low, value.high))
                size = f'width="{4 * value.mean:.1f}" height="9"'
                parts += [
                    f'<rect x="{start:.0f}" y="{y}" {size} fill="{color}"/>',
                    f'<path d="M{low:.1f} {y + 4.5}H{high:.1f}" stroke="#000"/>',
                    f'<text x="{high + 6:.1f}" y="{y + 9}">{value}</text>',
                ]
            y += 11
        y += 8
    head = f'<text x="4" y="18">{metric} of visible (blue) and amodal masks (red), percent</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y + 8}" '
        f'font-family="sans-serif" font-size="11">{head}{"".join(parts)}</svg>\n'
    )


def value_of(runs: list[dict[str, Any]], row: str, metric: str) -> Value | None:
    """Return a metric of a row over its runs; None where no run has it."""
    return summarise(run["metrics"].get(row, {}).get(metric) for run in runs)


def _metric_table(
    variants: Sequence[Variant], results: dict[str, list[dict[str, Any]]], row: str
) -> list[str]:
    lines = ["| model | " + " | ".join(METRICS) + " |", "|---" * (len(METRICS) + 1) + "|"]
    for variant in variants:
        values = [value_of(results[variant.name], row, metric) for metric in METRICS]
        if any(value is not None for value in values):
            cells = ["–" if value is None else str(value) for value in values]
            lines.append(f"| {variant.title} | " + " | ".join(cells) + " |")
    return lines


def _cost_table(variants: Sequence[Variant], results: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = ["| model | seeds | parameters (M) | frames/s | s/iteration |", "|---" * 5 + "|"]
    for variant in variants:
        runs = results[variant.name]
        seeds = " ".join(str(run["seed"]) for run in runs)
        speed = summarise(run["frames_per_second"] for run in runs)
        step = summarise(run["seconds_per_iteration"] for run in runs)
        shown = "–" if step is None else f"{step.mean:.2f}"
        lines.append(
            f"| {variant.title} | {seeds} | {runs[0]['parameters'] / 1e6:.2f} | {speed} | {shown} |"
        )
    return lines
