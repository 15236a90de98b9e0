"""YouTube-VIS 2019 and 2021, OVIS: checked, with paths of the frames that lie beside the JSON.

    python datasets/prepare_ytvis.py ytvis_2021/train/instances.json --frames train/JPEGImages \\
        --out datasets/ytvis_2021/train.json

The release is recognised by its categories. There are visible masks only.
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
    parser.add_argument("--split", choices=("train", "valid", "test"), default="train")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        release, names, videos = read_ytvis(args.input, args.frames)
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
        published={"videos": PUBLISHED[release][args.split]},
    )


if __name__ == "__main__":
    sys.exit(main())
