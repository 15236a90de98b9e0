"""YouTube-VIS 2019 and 2021, OVIS: checked, with paths of the frames that lie beside the JSON.

    python datasets/prepare_ytvis.py ytvis_2021/train/instances.json --frames train/JPEGImages \\
        --out datasets/ytvis_2021/train.json

The release is recognised by its categories. There are visible masks only. Persons and cars of OVIS
alone, for a test without training:

    python datasets/prepare_ytvis.py ovis/annotations_train.json --frames train \\
        --categories Person=person Vehicle=car --out datasets/ovis/person_car.json
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from amodal2.data.importers.command import PROBLEMS, convert_videos
from amodal2.data.importers.ytvis import PUBLISHED, read_ytvis

logger = logging.getLogger("prepare_ytvis")


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="published JSON file")
    parser.add_argument(
        "--frames",
        default="train/JPEGImages",
        help="folder of the frames, relative to that of the new JSON (train/JPEGImages)",
    )
    parser.add_argument(
        "--categories",
        nargs="+",
        metavar="NAME=NEW",
        help="keep these alone, under new names, and leave out videos without them",
    )
    parser.add_argument("--split", choices=("train", "valid", "test"), default="train")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    keep = None
    if args.categories is not None:
        pairs = [text.partition("=") for text in args.categories]
        keep = {name: new or name for name, _, new in pairs}
    try:
        release, names, videos = read_ytvis(args.input, args.frames, keep)
    except PROBLEMS as error:
        logger.error("prepare_ytvis: %s", error)
        return 2
    logger.info("%s", release)
    return convert_videos(
        lambda: videos,
        args.out,
        logger,
        categories=names,
        visible_only=True,
        published=None if keep else {"videos": PUBLISHED[release][args.split]},
    )


if __name__ == "__main__":
    sys.exit(main())
