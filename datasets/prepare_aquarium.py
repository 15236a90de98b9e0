"""Render the aquarium: videos of fish with exact visible and amodal masks.

    python datasets/prepare_aquarium.py --out datasets/aquarium --train 200 --val 20 --seed 1

writes ``train.json``, ``val.json`` and the frames that they name; see datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys

from amodal2.data.synthetic.command import (
    add_render_options,
    add_video_options,
    run_command,
    splits_parser,
    wanted_splits,
)
from amodal2.data.synthetic.writer import DatasetSpec, write_split

COUNTS = {"train": 200, "val": 20}


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = splits_parser(__doc__, COUNTS)
    add_render_options(parser, (480, 320))
    add_video_options(parser, 64, "mp4")
    parser.add_argument(
        "--dense",
        action="store_true",
        help="half of the object-frames more than a fifth hidden, instead of three in ten",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Render both splits; return the exit status."""
    args = build_parser().parse_args(arguments)

    def write() -> None:
        spec = DatasetSpec(
            scene="aquarium_dense" if args.dense else "aquarium",
            seed=args.seed,
            width=args.size[0],
            height=args.size[1],
            frames=args.frames,
            format=args.format,
            flow=args.flow,
        )
        for split, count in wanted_splits(args, COUNTS):
            write_split(spec, args.out, split, count, workers=args.workers, force=args.force)

    return run_command(logging.getLogger("prepare_aquarium"), write)


if __name__ == "__main__":
    sys.exit(main())
