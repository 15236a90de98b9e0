"""FISHBOWL: from the simulator's files to the JSON of video datasets.

    python datasets/prepare_fishbowl.py --root datasets/fishbowl --split test

writes ROOT/<split>.json; the tree is in datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from amodal2.data.importers.command import convert_videos
from amodal2.data.importers.fishbowl import read_fishbowl

PUBLISHED = {"train": 10_000, "val": 1_000, "test": 1_000}
"""Videos per split."""
FRAMES = 128


def main(arguments: list[str] | None = None) -> int:
    """Convert one split; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--split", choices=sorted(PUBLISHED), required=True)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: ROOT/SPLIT.json")
    parser.add_argument(
        "--class-agnostic", action="store_true", help="one category instead of the species"
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = args.out or args.root / f"{args.split}.json"
    videos = PUBLISHED[args.split]
    return convert_videos(
        lambda: read_fishbowl(args.root, args.split, out.parent, not args.class_agnostic),
        out,
        logging.getLogger("prepare_fishbowl"),
        published={"videos": videos, "frames": FRAMES * videos},
    )


if __name__ == "__main__":
    sys.exit(main())
