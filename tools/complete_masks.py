#!/usr/bin/env python
"""Complete visible masks that are given: hidden parts of the objects of one video.

Writes tracks.json with visible and amodal masks (further samples of a method that draws several as
tracks_001.json and so on), and on request the overlay and the other files of tools/video_demo.py.
With --content the completed objects of the first sample are written as RGBA images,
content/id_NNN/FFFFFF.png, which tools/rearrange_objects.py moves and removes.

Masks are a JSON file (YTVIS layout, COCO layout with a track_id, or our tracks.json), a folder with
one folder of PNG files per object, or a folder of PNG files with object ids (DAVIS).

Examples:
    python tools/complete_masks.py --frames clip.mp4 --masks tracks.json --completer union \\
        --output out --save overlay
    python tools/complete_masks.py --frames JPEGImages/bear --masks Annotations/bear \\
        --completer convex --output out
    python tools/complete_masks.py --frames clip.mp4 --masks masks/ --completer union \\
        --option inside_others=False --flow flow/ --output out
    python tools/complete_masks.py --frames clip.mp4 --masks masks/ --completer diffusion_vas \\
        --option weights=diffusion-vas-amodal-segmentation --depth Depth-Anything-V2-Small-hf \\
        --samples 3 --content diffusion-vas-content-completion --output out
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from amodal2.engine.completion import (
    add_completer_arguments,
    build_from_arguments,
)
from amodal2.engine.content import (
    CONTENT_FOLDER,
    add_content_arguments,
    content_options,
    show_steps,
)
from amodal2.structures.track import VideoPrediction
from amodal2.utils.errors import CheckpointError, VideoError
from amodal2.utils.frame_source import FrameSource
from amodal2.utils.frames import folder_name
from amodal2.utils.logging import get_logger, setup_logging
from amodal2.video.content import ContentWriter
from amodal2.video.loaded_tracks import loaded_tracks
from amodal2.video.mask_input import MaskInput, read_masks
from amodal2.video.pictures import PICTURES, write_pictures
from amodal2.video.reader import VideoInput, find_inputs

logger = get_logger("amodal2.complete_masks")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", required=True, metavar="PATH", help="video file or folder")
    parser.add_argument("--masks", required=True, type=Path, metavar="PATH")
    parser.add_argument(
        "--video", metavar="ID", help="which video of a JSON file with several, by id or file name"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--save",
        default="",
        metavar="LIST",
        help=f"beside tracks.json, of {','.join(sorted(PICTURES))}, separated by commas",
    )
    parser.add_argument(
        "--fps", type=float, default=25.0, help="frames per second of image folders (default: 25)"
    )
    add_completer_arguments(parser, compose="visible")
    add_content_arguments(parser)
    args = parser.parse_args(argv)
    args.save = frozenset(filter(None, args.save.split(",")))
    if not args.save <= PICTURES:
        parser.error(f"--save: expected some of {sorted(PICTURES)}, got {sorted(args.save)}")
    return args


def read_input(args: argparse.Namespace) -> tuple[VideoInput, MaskInput]:
    """Find the video and read its masks."""
    inputs, problems = find_inputs([args.frames])
    if problems or len(inputs) != 1 or not isinstance(inputs[0], VideoInput):
        raise VideoError(problems[0] if problems else f"--frames: expected one video, got {inputs}")
    video = inputs[0]
    with video.open(args.fps) as source:
        length = len(video.images) or sum(1 for _ in source)
    names = [image.stem for image in video.images]
    return video, read_masks(args.masks, length, names, video=args.video)


def write_results(
    args: argparse.Namespace,
    source: FrameSource,
    video: VideoInput,
    samples: list[VideoPrediction],
    names: dict[int, str],
) -> None:
    """Write every sample as JSON and the first one as pictures."""
    for number, sample in enumerate(samples):
        with loaded_tracks(sample) as tracks:
            tracks.write_json(
                args.output / (f"tracks_{number:03d}.json" if number else "tracks.json"),
                file_name=folder_name(video.path) if video.images else video.path.name,
                category_names=names,
                fps=source.fps,
            )
            if args.save and not number:
                with tqdm(desc="drawing", total=tracks.length, unit=" frames") as bar:
                    write_pictures(source, tracks, args.output, args.save, names, bar.update)


def main(argv: list[str] | None = None) -> int:
    """Complete the masks of one video; return the exit status."""
    args = parse_arguments(argv)
    setup_logging()
    try:
        options, depth = content_options(args)
        completion = build_from_arguments(args, options, depth)
        writer = ContentWriter(args.output / CONTENT_FOLDER) if args.content else None
        video, masks = read_input(args)
        args.output.mkdir(parents=True, exist_ok=True)
        with video.open(args.fps) as source:
            with tqdm(desc="completing", total=source.length, unit=" frames") as bar:
                show_steps(completion.completer, bar.set_postfix_str)
                samples = completion.predict(
                    source, masks.tracks, bar.update, name=video.name, on_content=writer
                )
            write_results(args, source, video, samples, masks.category_names)
    except (CheckpointError, VideoError, OSError, ValueError) as e:
        logger.error("%s", e)
        return 1
    if writer is not None:
        logger.info("%d images of completed objects in %s", writer.written, CONTENT_FOLDER)
    for track in masks.tracks:
        logger.info("track %d is object %s of the input", track.id, masks.object_names[track.id])
    return 0


if __name__ == "__main__":
    sys.exit(main())
