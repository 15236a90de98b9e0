"""Turn your own annotations into a video dataset: labelme, CVAT, COCO per frame, folders of masks.

    python datasets/prepare_custom.py labelme my_annotations --out my_data/train.json
    python datasets/prepare_custom.py cvat export.xml --frames my_data/frames --out my_data/val.json
    python datasets/prepare_custom.py coco export.json --frames my_data --out my_data/val.json
    python datasets/prepare_custom.py masks my_data --out my_data/val.json

The formats are described in datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from amodal2.data.importers import (
    SourceVideo,
    read_coco_frames,
    read_cvat,
    read_labelme,
    read_mask_folders,
)
from amodal2.data.importers.command import convert_videos
from amodal2.utils.frames import list_images


def read_videos(args: argparse.Namespace) -> Iterator[SourceVideo]:
    """Choose the reader of the format."""
    base = args.out.parent
    if args.format == "labelme":
        return read_labelme(args.input, base)
    if args.format == "masks":
        return read_mask_folders(args.input, base)
    if args.format == "coco":
        return read_coco_frames(args.input, args.frames or args.input.parent, base)
    frames = None
    if args.frames is not None:
        frames = [Path(os.path.relpath(path, base)).as_posix() for path in list_images(args.frames)]
    return read_cvat(args.input, frames)


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("format", choices=("labelme", "cvat", "coco", "masks"))
    parser.add_argument("input", type=Path, help="file or folder of the annotations")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    parser.add_argument(
        "--frames",
        type=Path,
        metavar="DIR",
        help="folder of the frames: of the one video (cvat), or that file_name refers to (coco)",
    )
    parser.add_argument(
        "--categories",
        nargs="+",
        metavar="NAME",
        help="names in the order of their ids, so that several files agree; default: those found, "
        "sorted",
    )
    parser.add_argument(
        "--visible-only", action="store_true", help="the source has no amodal masks at all"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Convert; return the exit status."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return convert_videos(
        lambda: read_videos(args),
        args.out,
        logging.getLogger("prepare_custom"),
        categories=args.categories,
        visible_only=args.visible_only,
    )


if __name__ == "__main__":
    sys.exit(main())
