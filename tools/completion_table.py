#!/usr/bin/env python
"""Train and score SaVos and what it is compared with, and print the tables of its paper.

``gum`` is Table 1 on Chewing Gum (paper variant), ``official`` the released generator's variant,
``species`` an unseen species of the aquarium with test-time adaptation (Table 2), ``scene`` the
model of the aquarium in the playroom (Table 3), ``composition`` completers on the visible tracks of
the shipped A2VIS (Table 11). Every run is a command of another tool, which is printed; complete
runs are not repeated, and trainings and adaptations go on where they were killed. table.md is
written after each run.

Examples:
    python tools/completion_table.py --out output/completion --part gum
    python tools/completion_table.py --out output/completion --aquarium datasets/aquarium
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.completion_steps import PARTS, Plan, make_steps

SCORES = ("full", "occ", "full_blend", "occ_blend")
TITLES = {
    "gum": "Chewing Gum, paper variant",
    "official": "Chewing Gum, official variant",
    "species": "Aquarium, objects of the species that was not learnt from",
    "scene": "Playroom, cylinders",
    "composition": "Aquarium, visible tracks of A2VIS",
}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    for field in fields(Plan):
        flag = "--" + field.name.replace("_", "-")
        if field.name == "out":
            parser.add_argument(flag, type=Path, required=True, metavar="DIR")
        else:
            kind = type(field.default)
            parser.add_argument(
                flag, type=kind, default=field.default, help=f"(default {field.default})"
            )
    return parser.parse_args(argv)


def read_rows(plan: Plan, part: str) -> dict[str, dict[str, Any]]:
    """Return the numbers of the rows of a part that are complete, by name."""
    found = {}
    for step in make_steps(plan, part):
        if step.file.parent == plan.result("").parent and step.file.is_file():
            name = step.file.stem.removeprefix(f"{part}_")
            found[name] = json.loads(step.file.read_text(encoding="utf-8"))
    return found


def format_part(part: str, rows: Mapping[str, dict[str, Any]]) -> str:
    """Return one table as Markdown: mIoU (%) by ``partly_hidden``, and AP where tracks were."""
    tracks = any("tracks" in row for row in rows.values())
    columns = [*SCORES, *(("amodal AP", "AP50", "AP75") if tracks else ()), "object-frames"]
    lines = [f"**{TITLES[part]}**", "", f"| method | {' | '.join(columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        scores = row["results"]["partly_hidden"]
        cells = [f"{scores[key]:.1f}" if key in scores else "-" for key in SCORES]
        if tracks:
            ap = row["tracks"]["results"]["amodal"]
            cells += [f"{ap[key]:.1f}" for key in ("AP", "AP50", "AP75")]
        cells.append(str(scores["counts"]["num_object_frames"]))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_tables(plan: Plan) -> str:
    """Write ``table.md`` with all rows that are complete, and return it."""
    tables = [format_part(part, rows) for part in PARTS if (rows := read_rows(plan, part))]
    text = "\n\n".join(tables) + "\n"
    plan.out.mkdir(parents=True, exist_ok=True)
    (plan.out / "table.md").write_text(text, encoding="utf-8")
    return text


def main(argv: list[str] | None = None) -> int:
    """Run what is missing; return the exit status."""
    args = parse_arguments(argv)
    try:
        plan = Plan(**{field.name: getattr(args, field.name) for field in fields(Plan)})
        for part in args.part:
            for step in make_steps(plan, part):
                if not step.file.is_file():
                    step.file.parent.mkdir(parents=True, exist_ok=True)
                    step.run()
                    write_tables(plan)
    except (OSError, RuntimeError, ValueError) as e:
        print(f"completion_table: {e}", file=sys.stderr)
        return 1
    print(write_tables(plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
