#!/usr/bin/env python
"""Train all amodal heads on the market and print the result table.

One detector (backbone, pyramid, proposals, boxes) is trained first, with Mask R-CNN's head on
amodal masks. Then every row gets a new mask head, which alone is trained, on the same number of
images; so all rows have the same features and boxes. Whatever is killed goes on at the next call
with the same options, and a complete run is not repeated. table.md and table.json are written after
each run.

--transfer adds two rows of mask transfer (as published, and with this project's additions) behind
MaskJoint's boxes, classes and visible masks, with a trained network and its bank of references
(tools/train_net.py, tools/build_reference_bank.py).

Examples:
    python tools/image_table.py --out output/image_table
    python tools/image_table.py --out output/image_table --only orcnn aisformer --seeds 1 2
    python tools/image_table.py --out output/image_table --transfer model_final.pth bank.pth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from amodal2.utils.detectron2_compat import launch  # noqa: F401 imports Detectron2 silently

from benchmarks.image_report import write_report  # isort: skip
from benchmarks.image_runs import (  # isort: skip
    HEADS,
    Plan,
    run_head,
    run_options,
)
from benchmarks.image_transfer import (  # isort: skip
    DETECTOR,
    TRANSFERS,
    Transfer,
    run_transfer,
)
from benchmarks.table_runs import Call, add_numbers, is_complete, run_jobs  # isort: skip


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = Plan(Path())
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--only", nargs="+", choices=HEADS, default=list(HEADS), metavar="NAME", help="heads"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="N")
    parser.add_argument(
        "--transfer",
        nargs=2,
        type=Path,
        metavar=("WEIGHTS", "BANK"),
        help="of mask transfer, for two more rows",
    )
    add_numbers(
        parser,
        defaults,
        {
            "detector_iterations": "of the detector",
            "iterations": "of a head",
            "val_images": "the first so many of the validation set",
            "threads": "of the processor",
        },
    )
    return parser.parse_args(argv)


def describe(plan: Plan) -> list[str]:
    """Return the lines that say how the table came about."""
    return [
        f"`market_v1`, the first {plan.val_images} validation images, input 128 pixels high, four "
        f"images per iteration. One detector, from random weights: {plan.detector_iterations} "
        "iterations with Mask R-CNN's head on amodal masks. Then every head from random weights: "
        f"{plan.iterations} iterations with 8 objects per image, the detector fixed. "
        "AP in percent (COCO; none, partial, heavy: amodal AP of objects that are not hidden, up "
        "to a quarter, more); mIoU over all objects, 0 where none was found; AP90 at IoU .9. In "
        "true boxes: mean IoU of whole objects (full) and of their hidden parts (occ). Seconds are "
        "of processor time on one core. Mean ± half the range over the seeds."
    ]


def find_jobs(args: argparse.Namespace, plan: Plan) -> list[tuple[str, list[Call]]]:
    """Return title and calls of the runs that are not complete, in order.

    Raises:
        ValueError: if a complete run has other options, or mask transfer lacks its detector.
    """
    jobs: list[tuple[str, list[Call]]] = [
        (f"{head}, seed {seed}", [(run_head, (plan, head, seed))])
        for seed in args.seeds
        for head in args.only
        if not is_complete(plan.result(head, seed), run_options(plan, head, seed))
    ]
    if args.transfer is None:
        return jobs
    if DETECTOR not in args.only:
        raise ValueError(
            f"image_table: expected {DETECTOR} among --only, since mask transfer completes what it "
            f"finds, got {args.only}"
        )
    transfer = Transfer(*args.transfer)
    return jobs + [
        (f"{name}, seed {seed}", [(run_transfer, (plan, transfer, name, seed))])
        for seed in args.seeds
        for name in TRANSFERS
        if not is_complete(plan.result(name, seed), transfer.options(name))
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    args = parse_arguments(argv)
    plan = Plan(args.out, args.detector_iterations, args.iterations, args.val_images, args.threads)
    titles = {head: HEADS[head] for head in args.only}
    if args.transfer:
        titles |= {name: title for name, (title, _) in TRANSFERS.items()}
    try:
        jobs = find_jobs(args, plan)
    except ValueError as e:
        print(e, file=sys.stderr)
        return 2
    return run_jobs("image_table", jobs, lambda: write_report(titles, plan.out, describe(plan)))


if __name__ == "__main__":
    sys.exit(main())
