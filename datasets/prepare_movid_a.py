"""MOViD-A (C2F-Seg) and the MOVi-B/D archives of EoRaS: to the JSON of video datasets.

    python datasets/prepare_movid_a.py --root datasets/movid_a --split test

writes ROOT/<split>.json; the tree is in datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from amodal2.data.importers.command import convert_videos
from amodal2.data.importers.movid_a import CATEGORY, read_movid_a

PUBLISHED = {
    ("movid_a", "train"): {"videos": 630, "frames": 630 * 24},
    ("movid_a", "test"): {"videos": 208, "frames": 208 * 24},
}
"""Counts by dataset and split (C2F-Seg)."""


def main(arguments: list[str] | None = None) -> int:
    """Convert one split; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--split", required=True, help="folder below ROOT, e.g. train or test")
    parser.add_argument(
        "--dataset",
        choices=("movid_a", "movi_b", "movi_d"),
        default="movid_a",
        help="whose published counts to compare with; there are none for movi_b and movi_d",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: ROOT/SPLIT.json")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = args.out or args.root / f"{args.split}.json"
    return convert_videos(
        lambda: read_movid_a(args.root / args.split, out.parent),
        out,
        logging.getLogger("prepare_movid_a"),
        categories=[CATEGORY],
        published=PUBLISHED.get((args.dataset, args.split)),
    )


if __name__ == "__main__":
    sys.exit(main())
