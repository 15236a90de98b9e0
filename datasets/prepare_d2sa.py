"""D2SA: from the published files to the JSON of image datasets.

python datasets/prepare_d2sa.py D2S_amodal_validation.json --out datasets/d2sa/val.json
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from amodal2.data.importers.command import convert_images
from amodal2.data.importers.d2sa import read_d2sa

PUBLISHED = {
    "D2S_amodal_training_rot0": {"images": 438, "objects": 690},
    "D2S_amodal_augmented": {"images": 1_562, "objects": 12_376},
    "D2S_amodal_validation": {"images": 3_600, "objects": 15_654},
}
"""Counts by the name of the published file."""


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="published JSON file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return convert_images(
        lambda collected: read_d2sa(args.input),
        args.out,
        logging.getLogger("prepare_d2sa"),
        published=lambda collected: PUBLISHED.get(args.input.stem, {}),
    )


if __name__ == "__main__":
    sys.exit(main())
