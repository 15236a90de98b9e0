"""KINS-Video-Car of SaVos: tracks of cars to the JSON of video datasets, ground truth to images.

    python datasets/prepare_kins_video_car.py --root datasets/kins_video_car --split test \\
        --kins instances_train.json --kins-images training/image_2

writes ROOT/<split>.json (visible masks of PointTrack) and, with --kins, ROOT/<split>_kins.json (the
objects of KINS, visible and amodal, in frames that are images of KINS); the tree is in
datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from amodal2.data.importers.command import PROBLEMS, convert_images, convert_videos
from amodal2.data.importers.image_import import ImageImport, SourceImage
from amodal2.data.importers.kins import CATEGORIES, read_kins
from amodal2.data.importers.kins_video_car import (
    CATEGORY,
    attach_tracks,
    match_images,
    read_kins_video_car,
)
from amodal2.data.importers.video_import import SourceVideo
from amodal2.utils.frames import list_images

logger = logging.getLogger("prepare_kins_video_car")


def convert_truth(args: argparse.Namespace, videos: list[SourceVideo]) -> int:
    """Write the objects of KINS in the frames of the videos; return the exit status."""

    def open_source(collected: ImageImport) -> tuple[dict[int, str], Iterable[SourceImage]]:
        release, images = read_kins(args.kins)
        frames = (args.root / name for video in videos for name in video.file_names)
        same = match_images(frames, list_images(args.kins_images))
        matches = {
            name: Path(os.path.relpath(path, args.root)).as_posix() for name, path in same.items()
        }
        return CATEGORIES[release], attach_tracks(images, videos, matches, collected.report)

    return convert_images(open_source, args.root / f"{args.split}_kins.json", logger)


def main(arguments: list[str] | None = None) -> int:
    """Convert one split; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--split", choices=("train", "val", "test"), required=True)
    parser.add_argument("--kins", type=Path, metavar="FILE", help="instances_train.json of KINS")
    parser.add_argument("--kins-images", type=Path, metavar="DIR", help="its images")
    args = parser.parse_args(arguments)
    if (args.kins is None) != (args.kins_images is None):
        parser.error("expected --kins and --kins-images together, got one of them")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    report: Counter[str] = Counter()
    try:
        videos = list(read_kins_video_car(args.root, args.split, args.root, report))
    except PROBLEMS as error:
        logger.error("prepare_kins_video_car: %s", error)
        return 2
    out = args.root / f"{args.split}.json"
    status = convert_videos(lambda: videos, out, logger, categories=[CATEGORY], visible_only=True)
    for what, count in report.items():
        if count:
            logger.warning("%d %s", count, what)
    if status or args.kins is None:
        return status
    return convert_truth(args, videos)


if __name__ == "__main__":
    sys.exit(main())
