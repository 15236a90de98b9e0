#!/usr/bin/env python
"""Train A2VIS, its ablations and its baselines on the aquarium and print the result table.

Every row starts from the same fixed frame detectors, whose outputs are computed once, and trains
on the same number of frames. Whatever is killed goes on at the next call with the same options,
and a complete run is not repeated. table.md, table.json and table.svg are written after each run.

Examples:
    python tools/aquarium_table.py --out output/table
    python tools/aquarium_table.py --out output/table --only a2vis genvis_amodal --seeds 1
    python tools/aquarium_table.py --out output/table --full
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from amodal2.utils.detectron2_compat import launch  # noqa: F401 imports Detectron2 silently

from benchmarks.aquarium_report import write_report  # isort: skip
from benchmarks.aquarium_runs import Plan, prepare_start, run_options, run_variant  # isort: skip
from benchmarks.aquarium_variants import select  # isort: skip
from benchmarks.table_runs import Call, add_numbers, is_complete, run_jobs  # isort: skip


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = Plan(Path())
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows of the table")
    parser.add_argument("--full", action="store_true", help="also N_c, L, convolutions, baselines")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument(
        "--weights",
        default=defaults.weights,
        metavar="FILE",
        help="visible frame detector and vita_module that all rows start from",
    )
    add_numbers(
        parser,
        defaults,
        {
            "iterations": "of a row, 15 frames each",
            "detector_iterations": "of the amodal detector, on from the visible one",
            "size": "shorter edge of the network's input in pixels",
            "train_videos": "the first so many of the training set",
            "val_videos": "the first so many of the validation set",
            "threads": "of the processor",
        },
    )
    parser.add_argument(
        "--score",
        type=float,
        default=defaults.score,
        help=f"lowest score of tracks for HOTA, IDF1, switches (default {defaults.score})",
    )
    return parser.parse_args(argv)


def make_plan(args: argparse.Namespace) -> Plan:
    """Return what all rows share, from the command line."""
    return Plan(**{name: getattr(args, name) for name in asdict(Plan(Path()))})


def describe(plan: Plan) -> list[str]:
    """Return the lines that say how the table came about."""
    return [
        f"Subset of `aquarium_v1`: {plan.train_videos} training and {plan.val_videos} validation "
        f"videos, input {plan.size} pixels high. Frame detectors are fixed: the visible one and "
        f"the `vita_module` that training starts from are those of `{plan.weights}`, the amodal "
        f"one went on from it for {plan.detector_iterations} iterations of 8 frames on amodal "
        f"masks. Each row then trained {plan.iterations} iterations of 15 frames (or as many "
        "frames), without flips. "
        f"HOTA, DetA, IDF1 and switches count tracks from score {plan.score}. Mean ± half the "
        "range over the seeds; frames/s are of processor time on one core, detector included."
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    args = parse_arguments(argv)
    plan = make_plan(args)
    try:
        variants = select(args.only, full=args.full)
        jobs: list[tuple[str, list[Call]]] = [
            (
                f"{variant.name}, seed {seed}",
                [
                    (prepare_start, (plan, variant.detector)),
                    (run_variant, (plan, variant, seed)),
                ],
            )
            for seed in args.seeds
            for variant in variants
            if not is_complete(plan.result(variant, seed), run_options(plan, variant, seed))
        ]
    except ValueError as e:
        print(e, file=sys.stderr)
        return 2
    return run_jobs(
        "aquarium_table", jobs, lambda: write_report(variants, plan.out, describe(plan))
    )


if __name__ == "__main__":
    sys.exit(main())
