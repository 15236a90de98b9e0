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
from collections import Counter
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
from amodal2.data.importers.shot_cuts import CONTENT_THRESHOLD, split_at_cuts
from amodal2.utils.frames import list_images


def read_videos(args: argparse.Namespace) -> Iterator[SourceVideo]:
    """Choose the reader of the format."""
    base = args.out.parent
    if args.format == "labelme":
        return read_labelme(args.input, base)
    if args.format == "masks":
        return read_mask_folders(args.input, base)
    if args.format == "coco":
        return read_coco_frames(
            args.input,
            args.frames or args.input.parent,
            base,
            single_images=args.single_images,
        )
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
        "--single-images",
        action="store_true",
        help="coco: every image is a video of one frame, without track ids; crowds are left out",
    )
    parser.add_argument(
        "--visible-only", action="store_true", help="the source has no amodal masks at all"
    )
    parser.add_argument(
        "--split-cuts",
        type=float,
        nargs="?",
        const=CONTENT_THRESHOLD,
        metavar="THRESHOLD",
        help="split videos at camera cuts, found by PySceneDetect (threshold "
        f"{CONTENT_THRESHOLD:g}); an object is another one after a cut",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Convert; return the exit status."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger = logging.getLogger("prepare_custom")
    report: Counter[str] = Counter()

    def read() -> Iterator[SourceVideo]:
        videos = read_videos(args)
        if args.split_cuts is None:
            return videos
        return split_at_cuts(videos, args.out.parent, report, args.split_cuts)

    status = convert_videos(
        read,
        args.out,
        logger,
        categories=args.categories,
        visible_only=args.visible_only,
    )
    for what, count in report.items():
        logger.info("%10d %s", count, what)
    return status


if __name__ == "__main__":
    sys.exit(main())
