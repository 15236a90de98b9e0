"""Render the playroom: falling toys before an orbiting camera, with exact masks, flow and depth.

    python datasets/prepare_playroom.py --out datasets/playroom --train 600 --val 60 --seed 1

writes ``train.json``, ``val.json`` and the frames that they name; see datasets/README.md. It needs
``pip install 'amodal2[physics]'``, and neither a GPU nor OpenGL.
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
from amodal2.data.synthetic.tumbling import FRAMES_PER_SECOND
from amodal2.data.synthetic.writer import DatasetSpec, write_split

COUNTS = {"train": 600, "val": 60}


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = splits_parser(__doc__, COUNTS)
    add_render_options(parser, (256, 256))
    add_video_options(parser, 24, "png")
    parser.add_argument("--depth", action="store_true", help="also write depth")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Render both splits; return the exit status."""
    args = build_parser().parse_args(arguments)

    def write() -> None:
        spec = DatasetSpec(
            scene="playroom",
            seed=args.seed,
            width=args.size[0],
            height=args.size[1],
            frames=args.frames,
            format=args.format,
            flow=args.flow,
            fps=FRAMES_PER_SECOND,
            depth=args.depth,
        )
        for split, count in wanted_splits(args, COUNTS):
            write_split(spec, args.out, split, count, workers=args.workers, force=args.force)

    return run_command(logging.getLogger("prepare_playroom"), write)


if __name__ == "__main__":
    sys.exit(main())
