#!/usr/bin/env python
"""Check an annotation file, say what it holds, and draw samples of it.

Example::

    python tools/check_data.py datasets/aquarium/val.json --sheet sheet.png

Images and videos are told apart by the lists of the file. Ends with status 1 at the first error,
and with --strict at doubtful content as well.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from amodal2.structures.dataset_summary import summarise_images, summarise_video
from amodal2.structures.frame_object import FrameObject
from amodal2.structures.image_json import (
    AMODAL_SEGM,
    OCCLUDER_SEGM,
    VISIBLE_SEGM,
    ImageDataset,
    read_image_json,
)
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.video_json import VideoDataset, read_video_json
from amodal2.utils.files import atomic_write
from amodal2.utils.frames import open_frames, read_image
from amodal2.utils.logging import setup_logging
from amodal2.visualization.sample_sheet import Sample, draw_sheet


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="annotation file of videos or images")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw samples to this file")
    parser.add_argument("--samples", type=int, default=6, help="rows of the sheet (6)")
    parser.add_argument(
        "--root", type=Path, help="folder of the frames or images (default: that of the file)"
    )
    parser.add_argument("--strict", action="store_true", help="doubtful content is an error too")
    return parser.parse_args(argv)


def is_video_file(file: Path) -> bool:
    """Tell whether a file lists videos; whatever else is wrong is left to the readers."""
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and "videos" in data


def spread(count: int, samples: int) -> list[int]:
    """Choose positions evenly over a list."""
    return np.unique(np.linspace(0, count - 1, min(samples, count)).round().astype(int)).tolist()


def video_samples(dataset: VideoDataset, root: Path, samples: int) -> Iterator[Sample]:
    """Yield, of videos spread over the file, the frame in which most objects are hidden in part."""
    for position in spread(len(dataset.videos), samples):
        video = dataset.videos[position]
        tracks = [track for track in dataset.annotations if track["video_id"] == video["id"]]

        def hidden(frame: int, tracks: list[dict] = tracks) -> int:
            return sum(
                track.get(AMODAL_KEY) is not None
                and track[AMODAL_KEY][frame] is not None
                and track[AMODAL_KEY][frame] != track[VISIBLE_KEY][frame]
                for track in tracks
            )

        frame = max(range(video["length"]), key=hidden) if tracks else 0
        names = video.get("file_names")
        source = [root / name for name in names] if names else root / video["file_name"]
        with open_frames(source) as frames:
            (picture,) = frames.read([frame])
        objects = [
            FrameObject(
                track["id"],
                track["category_id"],
                1.0,
                track[VISIBLE_KEY][frame],
                track[AMODAL_KEY][frame] if track.get(AMODAL_KEY) else None,
            )
            for track in tracks
        ]
        yield Sample(picture, [item for item in objects if item.visible or item.amodal], {})


def image_samples(dataset: ImageDataset, root: Path, samples: int) -> Iterator[Sample]:
    """Yield images spread over the file."""
    for position in spread(len(dataset.images), samples):
        image = dataset.images[position]
        found = [entry for entry in dataset.annotations if entry["image_id"] == image["id"]]
        objects = [
            FrameObject(
                entry["id"],
                entry["category_id"],
                1.0,
                entry.get(VISIBLE_SEGM),
                entry.get(AMODAL_SEGM),
            )
            for entry in found
        ]
        occluders = {
            entry["id"]: entry[OCCLUDER_SEGM] for entry in found if entry.get(OCCLUDER_SEGM)
        }
        yield Sample(read_image(root / image["file_name"]), objects, occluders)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    args = parse_args(argv)
    setup_logging(logging.WARNING)
    root = args.root or args.file.parent
    try:
        if is_video_file(args.file):
            videos = read_video_json(args.file, strict=args.strict)
            lines = summarise_video(videos)
            names, samples = videos.categories, video_samples(videos, root, args.samples)
        else:
            images = read_image_json(args.file, strict=args.strict)
            lines = summarise_images(images)
            names, samples = images.categories, image_samples(images, root, args.samples)
        text = "\n".join(lines) + "\n"
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
        if args.sheet:
            sheet = draw_sheet(list(samples), {entry["id"]: entry["name"] for entry in names})
            with atomic_write(args.sheet) as temporary:
                cv2.imwrite(str(temporary), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
            sys.stdout.write(f"samples: {args.sheet}\n")
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"check_data.py: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
