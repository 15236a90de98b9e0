"""FISHBOWL: from the simulator's files, or the pickles of SaVos, to the JSON of video datasets.

    python datasets/prepare_fishbowl.py --root datasets/fishbowl --split test

writes ROOT/<split>.json; the trees are in datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from amodal2.data.importers.command import convert_videos
from amodal2.data.importers.fishbowl import read_fishbowl
from amodal2.data.importers.fishbowl_savos import find_pickle, read_fishbowl_savos
from amodal2.data.importers.video_import import SourceVideo

PUBLISHED = {"train": 10_000, "val": 1_000, "test": 1_000}
"""Videos per split."""
FRAMES = 128
SAVOS = {"train": {"videos": 6_098, "tracks": 13_197}, "val": {}, "test": {"tracks": 1_521}}
"""Published counts of the selection of SaVos, where there are any."""

logger = logging.getLogger("prepare_fishbowl")


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
    pickle = find_pickle(args.root, args.split)
    species = not args.class_agnostic

    def read() -> Iterator[SourceVideo]:
        if pickle is not None:
            return read_fishbowl_savos(pickle, args.split, out.parent, species)
        return read_fishbowl(args.root, args.split, out.parent, species)

    videos = PUBLISHED[args.split]
    logger.info("layout: %s", "simulator" if pickle is None else f"SaVos ({pickle})")
    published = {"videos": videos, "frames": FRAMES * videos} if pickle is None else None
    return convert_videos(read, out, logger, published=published or SAVOS[args.split])


if __name__ == "__main__":
    sys.exit(main())
