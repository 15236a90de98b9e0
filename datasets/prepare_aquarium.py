"""Render the aquarium: videos of fish with exact visible and amodal masks.

    python datasets/prepare_aquarium.py --out datasets/aquarium --train 200 --val 20 --seed 1

writes ``train.json``, ``val.json`` and the frames that they name; see datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import time
from pathlib import Path

import cv2

from amodal2.data.synthetic.writer import DatasetSpec, write_split

logger = logging.getLogger("prepare_aquarium")


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as 480x320, width first."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 480x320, got {text!r}")
    return int(match[1]), int(match[2])


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="root folder of the dataset")
    parser.add_argument("--train", type=int, default=200, metavar="N", help="training videos (200)")
    parser.add_argument("--val", type=int, default=20, metavar="M", help="validation videos (20)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (0)")
    parser.add_argument("--size", type=parse_size, default=(480, 320), help="WxH (480x320)")
    parser.add_argument("--frames", type=int, default=64, help="per video, at most 128 (64)")
    parser.add_argument(
        "--format", choices=("mp4", "png"), default="mp4", help="one file or frames per video (mp4)"
    )
    parser.add_argument(
        "--dense",
        action="store_true",
        help="half of the object-frames more than a fifth hidden, instead of three in ten",
    )
    parser.add_argument("--flow", action="store_true", help="also write optical flow")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (one per core)"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a dataset made with other parameters"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Render both splits; return the exit status."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cv2.setNumThreads(1)
    start = time.monotonic()
    try:
        width, height = args.size
        spec = DatasetSpec(
            scene="aquarium_dense" if args.dense else "aquarium",
            seed=args.seed,
            width=width,
            height=height,
            frames=args.frames,
            format=args.format,
            flow=args.flow,
        )
        for split, count in (("train", args.train), ("val", args.val)):
            if count:
                write_split(spec, args.out, split, count, workers=args.workers, force=args.force)
    except (ValueError, OSError) as error:
        logger.error("prepare_aquarium: %s", error)
        return 2
    logger.info("done in %.0f s", time.monotonic() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
