"""The sets of mask transfer: complete cars of Cityscapes and the cars of COCOA, as image datasets.

    python datasets/prepare_mask_transfer.py references datasets/cityscapes --split train \\
        --out datasets/cityscapes/complete_cars_train.json
    python datasets/prepare_mask_transfer.py queries COCO_amodal_val2014_with_classes.json \\
        --out datasets/cocoa/cars_val.json

The rules for "complete" are in datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from amodal2.data.importers.cityscapes import read_complete_cars
from amodal2.data.importers.cocoa_cars import read_cocoa_cars
from amodal2.data.importers.command import convert_images
from amodal2.data.importers.image_import import ImageImport, SourceImage

REFERENCE_IMAGES = 320
"""Published size of the reference set; which images is not published."""
QUERY_IMAGES = {"train": 228, "val": 144}
"""Published sizes of the query sets."""

logger = logging.getLogger("prepare_mask_transfer")


def published(kind: str, collected: ImageImport) -> dict[str, int]:
    """Choose the published counts to compare with: of the query sets those that are nearer."""
    if kind == "references":
        return {"images": REFERENCE_IMAGES}
    found = collected.report["images"]
    return {"images": min(QUERY_IMAGES.values(), key=lambda count: abs(count - found))}


def main(arguments: list[str] | None = None) -> int:
    """Convert one set; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=("references", "queries"))
    parser.add_argument("input", type=Path, help="folder of Cityscapes, or JSON file of COCOA")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="of Cityscapes")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def open_source(collected: ImageImport) -> tuple[dict[int, str], Iterable[SourceImage]]:
        if args.set == "references":
            return read_complete_cars(args.input, args.split, collected.report)
        return read_cocoa_cars(args.input, collected.report)

    return convert_images(
        open_source,
        args.out,
        logger,
        published=lambda collected: published(args.set, collected),
    )


if __name__ == "__main__":
    sys.exit(main())
