"""COCOA and COCOA-cls: from the published files to the JSON of image datasets.

    python datasets/prepare_cocoa.py COCO_amodal_val2014.json --out datasets/cocoa/val.json
    python datasets/prepare_cocoa.py COCO_amodal_val2014_with_classes.json \\
        --out datasets/cocoa_cls/val.json

The layout is recognised by the keys of the file.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from amodal2.data.importers.cocoa import read_cocoa
from amodal2.data.importers.command import convert_images

PUBLISHED = {
    "COCO_amodal_train2014": {"images": 2_500},
    "COCO_amodal_val2014": {"images": 1_323},
    "COCO_amodal_test2014": {"images": 1_250},
    "COCO_amodal_train2014_with_classes": {"images": 2_276},
    "COCO_amodal_val2014_with_classes": {"images": 1_223},
}
"""Counts by the name of the published file; papers print 2,476 for the training set with classes,
the file has 2,276."""


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="published JSON file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    parser.add_argument(
        "--stuff", action="store_true", help="keep the stuff regions of the original layout"
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return convert_images(
        lambda collected: read_cocoa(args.input, collected.report, args.stuff),
        args.out,
        logging.getLogger("prepare_cocoa"),
        published=lambda collected: PUBLISHED.get(args.input.stem, {}),
    )


if __name__ == "__main__":
    sys.exit(main())
