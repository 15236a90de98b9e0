"""The table of amodal heads as markdown and JSON, from the files of the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.aquarium_report import answer, read_results, summarise, value_of

from amodal2.utils.files import atomic_write, write_json

AP_COLUMNS = {
    "amodal AP": ("amodal", "AP"),
    "AP50": ("amodal", "AP50"),
    "AP75": ("amodal", "AP75"),
    "AP90": ("zhang", "AP90"),
    "none": ("amodal/cocoa/none", "AP"),
    "partial": ("amodal/cocoa/partial", "AP"),
    "heavy": ("amodal/cocoa/heavy", "AP"),
    "visible AP": ("visible", "AP"),
    "invisible AP": ("invisible", "AP"),
    "mIoU": ("zhang", "miou_all"),
}
BOX_COLUMNS = {
    f"{level} {part}": (f"boxes/{level}", part)
    for level in ("all", "none", "partial", "heavy")
    for part in ("full", "occ")
    if (level, part) != ("none", "occ")
}
QUESTIONS = (
    ("AISFormer above ORCNN?", "aisformer", "orcnn", "amodal", "AP"),
    ("ORCNN above Mask R-CNN?", "orcnn", "mask_rcnn", "amodal", "AP"),
    ("AISFormer above Mask R-CNN?", "aisformer", "mask_rcnn", "amodal", "AP"),
    (
        "Mask transfer above Mask R-CNN in mean IoU?",
        "mask_transfer",
        "mask_rcnn",
        "zhang",
        "miou_all",
    ),
    ("Mask R-CNN above mask transfer at IoU .9?", "mask_rcnn", "mask_transfer", "zhang", "AP90"),
)
"""Question, the row that has more in the papers, the row it is compared with, row and metric."""

Results = dict[str, list[dict[str, Any]]]


def write_report(titles: Mapping[str, str], out: Path, notes: Sequence[str]) -> str:
    """Write ``table.md`` and ``table.json`` from the runs that are complete.

    Args:
        titles: name of a row -> its title, in the order of the table.
        out: folder that holds ``results``.
        notes: lines above the tables.

    Returns:
        str: the markdown.
    """
    results = read_results(list(titles), out / "results")
    lines = ["# Amodal heads on the market", "", *notes, ""]
    for question, better, other, row, metric in QUESTIONS:
        if better in titles and other in titles:
            lines.append(f"- {question} {answer(results, better, other, row, metric)}")
    lines += ["", *_cost_table(titles, results)]
    lines += ["", "## Detected objects", "", *_table(titles, results, AP_COLUMNS)]
    lines += ["", "## Masks in the true boxes, mean IoU", "", *_table(titles, results, BOX_COLUMNS)]
    text = "\n".join(lines) + "\n"
    with atomic_write(out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_json(out / "table.json", results, indent=1)
    return text


def _table(
    titles: Mapping[str, str], results: Results, columns: Mapping[str, tuple[str, str]]
) -> list[str]:
    lines = ["| head | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, runs in results.items():
        values = [value_of(runs, *where) for where in columns.values()]
        if any(value is not None for value in values):
            cells = ["–" if value is None else str(value) for value in values]
            lines.append(f"| {titles[name]} | " + " | ".join(cells) + " |")
    return lines


def _cost_table(titles: Mapping[str, str], results: Results) -> list[str]:
    lines = ["| head | seeds | parameters (k) | s/iteration | images/s |", "|---" * 5 + "|"]
    for name, runs in results.items():
        seeds = " ".join(str(run["seed"]) for run in runs)
        step = summarise(run["seconds_per_iteration"] for run in runs)
        speed = summarise(run["images_per_second"] for run in runs)
        size = runs[0]["parameters"]
        cells = (
            seeds,
            "–" if size is None else f"{size / 1e3:.0f}",
            "–" if step is None else f"{step.mean:.2f}",
            "–" if speed is None else str(speed),
        )
        lines.append(f"| {titles[name]} | " + " | ".join(cells) + " |")
    return lines
