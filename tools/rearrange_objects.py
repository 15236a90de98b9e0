#!/usr/bin/env python
"""Move or remove objects of a video; what they hid appears.

Takes what tools/complete_masks.py --content has written: tracks.json and the completed objects as
RGBA images. Behind them lies the background that other frames show (the camera must stand still).

Examples:
    python tools/rearrange_objects.py --frames clip.mp4 --completed out --remove 2 \\
        --output removed.mp4
    python tools/rearrange_objects.py --frames clip.mp4 --completed out --move 1 80 -20 \\
        --output moved.mp4
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from amodal2.engine.content import CONTENT_FOLDER
from amodal2.structures.track import Track
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import VideoError
from amodal2.utils.logging import get_logger, setup_logging
from amodal2.video.content import read_content
from amodal2.video.reader import VideoInput, find_inputs
from amodal2.video.rearrange import Edits, rearrange
from amodal2.video.writer import VideoWriter

logger = get_logger("amodal2.rearrange_objects")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", required=True, metavar="PATH", help="video file or folder")
    parser.add_argument(
        "--completed", required=True, type=Path, metavar="DIR", help="output of complete_masks.py"
    )
    parser.add_argument(
        "--remove", type=int, action="append", default=[], metavar="ID", help="may be repeated"
    )
    parser.add_argument(
        "--move",
        type=int,
        nargs=3,
        action="append",
        default=[],
        metavar=("ID", "RIGHT", "DOWN"),
        help="by pixels; may be repeated",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="*.mp4")
    parser.add_argument(
        "--fps", type=float, default=25.0, help="frames per second of image folders (default: 25)"
    )
    return parser.parse_args(argv)


def read_tracks(folder: Path) -> list[Track]:
    """Read the completed tracks."""
    return [
        Track(
            record["id"],
            record["category_id"],
            1.0,
            record["segmentations"],
            record.get("amodal_segmentations"),
        )
        for record in read_video_json(folder / "tracks.json").annotations
    ]


def write_video(args: argparse.Namespace, video: VideoInput, tracks: list[Track]) -> None:
    """Change the video frame by frame."""
    edits = Edits(frozenset(args.remove), {n: (right, down) for n, right, down in args.move})
    clips = args.completed / CONTENT_FOLDER
    if not clips.is_dir():
        raise VideoError(
            f"--completed: expected {clips}, got none; run complete_masks.py with --content"
        )
    with video.open(args.fps) as source:
        size = source.height, source.width
        frames = rearrange(
            source, tracks, lambda number, t: read_content(clips, number, t, size), edits
        )
        writer = VideoWriter(args.output, *size, fps=source.fps, time_base=source.time_base)
        with writer, tqdm(desc="rearranging", total=source.length, unit=" frames") as bar:
            for frame, seconds in frames:
                writer.write(frame, seconds)
                bar.update()


def main(argv: list[str] | None = None) -> int:
    """Change one video; return the exit status."""
    args = parse_arguments(argv)
    setup_logging()
    try:
        inputs, problems = find_inputs([args.frames])
        if problems or len(inputs) != 1 or not isinstance(inputs[0], VideoInput):
            raise VideoError(
                problems[0] if problems else f"--frames: expected one video, got {inputs}"
            )
        write_video(args, inputs[0], read_tracks(args.completed))
    except (VideoError, OSError, ValueError) as e:
        logger.error("%s", e)
        return 1
    logger.info("%s", args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
