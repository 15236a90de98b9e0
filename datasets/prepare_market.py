"""Render the market: pictures of overlapping things with exact visible and amodal masks.

    python datasets/prepare_market.py --out datasets/market --train 2000 --val 200 --seed 1

writes ``train.json``, ``val.json`` and the pictures that they name; see datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys

from amodal2.data.synthetic.command import (
    add_render_options,
    run_command,
    splits_parser,
    wanted_splits,
)
from amodal2.data.synthetic.image_writer import ImageSpec, write_image_split

COUNTS = {"train": 2000, "val": 200}


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = splits_parser(__doc__, COUNTS)
    add_render_options(parser, (320, 240))
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Render both splits; return the exit status."""
    args = build_parser().parse_args(arguments)

    def write() -> None:
        spec = ImageSpec(seed=args.seed, width=args.size[0], height=args.size[1])
        for split, count in wanted_splits(args, COUNTS):
            write_image_split(spec, args.out, split, count, workers=args.workers, force=args.force)

    return run_command(logging.getLogger("prepare_market"), write)


if __name__ == "__main__":
    sys.exit(main())
