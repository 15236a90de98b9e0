"""KINS: from the published files of 2019 or 2020 to the JSON of image datasets.

    python datasets/prepare_kins.py instances_train.json --out datasets/kins/train.json
    python datasets/prepare_kins.py update_test_2020.json --out datasets/kins2020/test.json

The release is recognised by the keys of the file.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from amodal2.data.importers.command import convert_images
from amodal2.data.importers.image_import import ImageImport, SourceImage
from amodal2.data.importers.kins import CATEGORIES, read_kins

PUBLISHED = {
    "train": {"images": 7_474, "objects": 95_311},
    "test": {"images": 7_517, "objects": 92_492},
}
"""Counts by split; the one with the nearer number of images is compared."""

logger = logging.getLogger("prepare_kins")


def nearest_split(collected: ImageImport) -> dict[str, int]:
    """Choose the published counts to compare with."""
    found = collected.report["images"]
    return min(PUBLISHED.values(), key=lambda counts: abs(counts["images"] - found))


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="published JSON file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def open_source(collected: ImageImport) -> tuple[dict[int, str], Iterable[SourceImage]]:
        release, images = read_kins(args.input)
        logger.info("release of %s", release)
        return CATEGORIES[release], images

    return convert_images(open_source, args.out, logger, published=nearest_split)


if __name__ == "__main__":
    sys.exit(main())
