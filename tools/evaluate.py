#!/usr/bin/env python
"""Score predictions against ground truth and print the table.

Example::

    python tools/evaluate.py --gt datasets/aquarium/val.json --pred demo_out --task video \\
        --metrics ap,hota
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from amodal2.evaluation.completion import (
    DEFAULT_PROTOCOLS,
    CompletionReport,
    evaluate_completions,
)
from amodal2.evaluation.image_predictions import load_record_lists
from amodal2.evaluation.image_protocols import ImageOptions, evaluate_images
from amodal2.evaluation.image_report import ImageReports
from amodal2.evaluation.prediction_files import load_video_predictions
from amodal2.evaluation.report import VideoReport
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.image_json import read_image_json
from amodal2.structures.video_json import read_video_json
from amodal2.utils.logging import setup_logging


def evaluate_video(args: argparse.Namespace) -> VideoReport:
    """Score visible and amodal masks, and amodal boxes, of tracks."""
    dataset = read_video_json(args.gt, strict=args.strict, skip_invalid=args.skip_invalid)
    return evaluate_video_tracks(
        dataset,
        load_video_predictions(args.pred, dataset),
        file=args.pred[0] if len(args.pred) == 1 else None,
        class_agnostic=args.class_agnostic,
        occlusion_bins=args.occlusion_bins,
        visible_as_amodal=args.visible_as_amodal,
        metrics=args.metrics.split(","),
        boxes=args.boxes,
        score_threshold=args.score_threshold,
    )


def evaluate_image(args: argparse.Namespace) -> ImageReports:
    """AP and AR of amodal, visible and invisible masks and boxes of images, by every protocol."""
    dataset = read_image_json(args.gt, strict=args.strict, skip_invalid=args.skip_invalid)
    records = load_record_lists(args.pred)
    options = ImageOptions(
        class_agnostic=args.class_agnostic,
        occlusion=("cocoa",) if args.occlusion_bins else (),
    )
    file = args.pred[0] if len(args.pred) == 1 else None
    return ImageReports(
        [
            evaluate_images(dataset, records, protocol=name, options=options, file=file)
            for name in args.protocol or ["coco"]
        ]
    )


def evaluate_completion(args: argparse.Namespace) -> CompletionReport:
    """Mean IoU of completed masks, of images or videos by what the ground truth holds."""
    with open(args.gt, "rb") as file:
        read = read_video_json if b'"videos"' in file.read() else read_image_json
    return evaluate_completions(
        read(args.gt, strict=args.strict, skip_invalid=args.skip_invalid),
        load_record_lists(args.pred),
        protocols=args.protocol or DEFAULT_PROTOCOLS,
        file=args.pred[0] if len(args.pred) == 1 else None,
    )


TASKS: dict[str, Callable[[argparse.Namespace], VideoReport | ImageReports | CompletionReport]] = {
    "video": evaluate_video,
    "image": evaluate_image,
    "completion": evaluate_completion,
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gt", required=True, help="annotation file of the ground truth")
    parser.add_argument(
        "--pred",
        required=True,
        nargs="+",
        help="prediction lists, tracks.json files, or folders with tracks.json files",
    )
    parser.add_argument("--task", choices=sorted(TASKS), default="video", help="what is scored")
    parser.add_argument(
        "--protocol",
        nargs="+",
        help="image: one or more of coco, cocoa and kins; completion: one or more mIoU rules",
    )
    parser.add_argument("--output", help="also write the report to this JSON file")
    parser.add_argument("--csv", help="also write the report to this CSV file")
    parser.add_argument(
        "--metrics",
        default="ap",
        help="ap (AP and AR over tubes), hota (HOTA, CLEAR and identity metrics), or ap,hota",
    )
    parser.add_argument(
        "--boxes", action="store_true", help="add a row for the amodal boxes of the tracks"
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        help="lowest score of the predictions that count for hota; AP takes all of them",
    )
    parser.add_argument(
        "--class-agnostic", action="store_true", help="add rows that count all classes as one"
    )
    parser.add_argument(
        "--occlusion-bins",
        action="store_true",
        help="add rows for tracks hidden by at most, and by more than, one half on average",
    )
    parser.add_argument(
        "--visible-as-amodal",
        action="store_true",
        help="add a row that scores the predicted visible masks as amodal predictions",
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at doubtful ground truth instead of warning"
    )
    parser.add_argument(
        "--skip-invalid",
        action="store_true",
        help="leave invalid ground-truth records out and count them instead of stopping",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    args = parse_args(argv)
    setup_logging(logging.WARNING)
    try:
        report = TASKS[args.task](args)
        if args.output:
            report.to_json(args.output)
        if args.csv:
            report.to_csv(args.csv)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"evaluate.py: {error}\n")
        return 1
    sys.stdout.write(f"{report}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
