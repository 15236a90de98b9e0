"""Make the Chewing Gum videos of the SaVos paper, with exact masks and flow.

    python datasets/prepare_chewing_gum.py --out datasets/chewing_gum_paper --variant paper \\
        --train 10000 --val 500 --test 1000 --seed 0

writes ``train.json``, ``val.json``, ``test.json`` and the frames and flow that they name, or with
``--npz`` one archive per split; see datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys

from amodal2.data.synthetic.chewing_gum import FRAMES, VARIANTS
from amodal2.data.synthetic.command import run_command, splits_parser, wanted_splits
from amodal2.data.synthetic.gum_writer import GumSpec, write_gum_arrays, write_gum_split

COUNTS = {"train": 10000, "val": 500, "test": 1000}

logger = logging.getLogger("prepare_chewing_gum")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = splits_parser(__doc__, COUNTS)
    parser.add_argument(
        "--variant", choices=sorted(VARIANTS), default="paper", help="official has the square"
    )
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"per video ({FRAMES})")
    parser.add_argument("--npz", action="store_true", help="one archive per split instead")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Make all splits; return the exit status."""
    args = build_parser().parse_args(arguments)

    def write() -> None:
        spec = GumSpec(args.variant, args.seed, args.frames)
        args.out.mkdir(parents=True, exist_ok=True)
        for split, count in wanted_splits(args, COUNTS):
            if args.npz:
                write_gum_arrays(spec, args.out / f"{split}.npz", split, count)
            else:
                write_gum_split(spec, args.out, split, count)
            logger.info("%s: %d videos", split, count)

    return run_command(logger, write)


if __name__ == "__main__":
    sys.exit(main())
