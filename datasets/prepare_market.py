"""Render the market: pictures of overlapping things with exact visible and amodal masks.

    python datasets/prepare_market.py --out datasets/market --train 2000 --val 200 --seed 1

writes ``train.json``, ``val.json`` and the pictures that they name; see datasets/README.md.
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

from amodal2.data.synthetic.image_writer import ImageSpec, write_image_split

logger = logging.getLogger("prepare_market")


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as 320x240, width first."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 320x240, got {text!r}")
    return int(match[1]), int(match[2])


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="root folder of the dataset")
    parser.add_argument("--train", type=int, default=2000, metavar="N", help="pictures (2000)")
    parser.add_argument("--val", type=int, default=200, metavar="M", help="pictures (200)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (0)")
    parser.add_argument("--size", type=parse_size, default=(320, 240), help="WxH (320x240)")
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
        spec = ImageSpec(seed=args.seed, width=args.size[0], height=args.size[1])
        for split, count in (("train", args.train), ("val", args.val)):
            if count:
                write_image_split(
                    spec, args.out, split, count, workers=args.workers, force=args.force
                )
    except (ValueError, OSError) as error:
        logger.error("prepare_market: %s", error)
        return 2
    logger.info("done in %.0f s", time.monotonic() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
