#!/usr/bin/env python
"""Score predictions against ground truth, or compare two predictions.

Examples::

    python tools/evaluate.py --gt datasets/aquarium/val.json --pred demo_out --task video \\
        --metrics ap,hota --out evaluation --frames datasets/aquarium
    python tools/evaluate.py --gt datasets/aquarium/val.json --compare old new --out evaluation
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal2.evaluation.comparison import RESAMPLES, SEED, compare
from amodal2.evaluation.completion import (
    DEFAULT_PROTOCOLS,
    CompletionReport,
    evaluate_completions,
)
from amodal2.evaluation.completion_variants import VARIANTS
from amodal2.evaluation.html_report import write_html
from amodal2.evaluation.image_occlusion import OCCLUSION_RULES
from amodal2.evaluation.image_predictions import load_record_lists
from amodal2.evaluation.image_protocols import PROTOCOLS as IMAGE_PROTOCOLS
from amodal2.evaluation.image_protocols import ImageOptions, evaluate_images
from amodal2.evaluation.image_report import ImageReports
from amodal2.evaluation.prediction_files import load_video_predictions
from amodal2.evaluation.report import VideoReport
from amodal2.evaluation.tao_amodal import TAO_PROTOCOLS, evaluate_tao
from amodal2.evaluation.video_tracks import METRICS, evaluate_video_tracks
from amodal2.structures.image_json import ImageDataset, read_image_json
from amodal2.structures.video_json import VideoDataset, read_video_json
from amodal2.utils.logging import setup_logging


@dataclass
class Inputs:
    """What one evaluation is about."""

    dataset: VideoDataset | ImageDataset
    records: list[dict[str, Any]]
    file: str | None


def read_truth(args: argparse.Namespace) -> VideoDataset | ImageDataset:
    """Read the ground truth; for completions it may hold images or videos."""
    video = args.task == "video"
    if args.task == "completion":
        with open(args.gt, "rb") as file:
            video = b'"videos"' in file.read()
    read = read_video_json if video else read_image_json
    dataset = read(args.gt, strict=args.strict, skip_invalid=args.skip_invalid)
    if args.task == "video" and isinstance(dataset, VideoDataset):
        dataset.pack()
    return dataset


def read_inputs(
    args: argparse.Namespace, dataset: VideoDataset | ImageDataset, paths: Sequence[str]
) -> Inputs:
    """Read predictions."""
    tracks = args.task == "video" and isinstance(dataset, VideoDataset)
    records = load_video_predictions(paths, dataset) if tracks else load_record_lists(paths)
    return Inputs(dataset, records, paths[0] if len(paths) == 1 else None)


def evaluate_video(args: argparse.Namespace, inputs: Inputs) -> VideoReport | ImageReports:
    """Score visible and amodal masks and boxes of tracks, or boxes by the rules of TAO-Amodal."""
    if args.protocol:
        return ImageReports(
            [
                report
                for name in args.protocol
                for report in evaluate_tao(
                    inputs.dataset, inputs.records, kind=TAO_PROTOCOLS[name], file=inputs.file
                ).reports
            ]
        )
    return evaluate_video_tracks(
        inputs.dataset,
        inputs.records,
        file=inputs.file,
        class_agnostic=args.class_agnostic,
        occlusion_bins=args.occlusion_bins,
        visible_as_amodal=args.visible_as_amodal,
        metrics=args.metrics,
        boxes=args.boxes,
        score_threshold=args.score_threshold,
    )


def evaluate_image(args: argparse.Namespace, inputs: Inputs) -> ImageReports:
    """AP and AR of amodal, visible and invisible masks and boxes of images, by every protocol."""
    rules = [*(["cocoa"] if args.occlusion_bins else []), *(args.occlusion_rules or [])]
    options = ImageOptions(
        class_agnostic=args.class_agnostic, occlusion=tuple(dict.fromkeys(rules))
    )
    return ImageReports(
        [
            evaluate_images(
                inputs.dataset, inputs.records, protocol=name, options=options, file=inputs.file
            )
            for name in args.protocol or ["coco"]
        ]
    )


def evaluate_completion(args: argparse.Namespace, inputs: Inputs) -> CompletionReport:
    """Mean IoU of completed masks, of images or videos by what the ground truth holds."""
    return evaluate_completions(
        inputs.dataset,
        inputs.records,
        protocols=args.protocol or DEFAULT_PROTOCOLS,
        file=inputs.file,
    )


TASKS: dict[str, Callable[[argparse.Namespace, Inputs], Any]] = {
    "video": evaluate_video,
    "image": evaluate_image,
    "completion": evaluate_completion,
}


PROTOCOLS: dict[str, Collection[str]] = {
    "video": TAO_PROTOCOLS,
    "image": IMAGE_PROTOCOLS,
    "completion": VARIANTS,
}
"""Task -> names that ``--protocol`` may have there."""

TRACKS = "--task video without --protocol"
TRACKING = f"{TRACKS} and with hota in --metrics"
PICTURES = "--pred with --out, without --protocol of boxes"
IMAGES = "--task image with --protocol coco (the default)"
RULES = f"{IMAGES}, and not vrsp with --compare, which has no intervals for it"
SCOPES = {
    "csv": ["--pred"],
    "frames": [PICTURES],
    "resamples": ["--compare"],
    "seed": ["--compare"],
    "metrics": [TRACKS],
    "boxes": [TRACKS],
    "visible_as_amodal": [TRACKS],
    "score_threshold": [TRACKING],
    "class_agnostic": [TRACKS, IMAGES],
    "occlusion_bins": [TRACKS, IMAGES],
    "occlusion_rules": [RULES],
}
"""Option that has an effect in some calls only -> these, any one of which is enough."""


def find_scopes(args: argparse.Namespace) -> set[str]:
    """Return the scopes of ``SCOPES`` that a call belongs to."""
    tracks = args.task == "video" and not args.protocol
    boxes = args.task == "video" and bool(args.protocol)
    found = {
        "--pred": bool(args.pred),
        "--compare": bool(args.compare),
        PICTURES: bool(args.pred and args.out) and not boxes,
        TRACKS: tracks,
        TRACKING: tracks and "hota" in (args.metrics or ()),
        IMAGES: args.task == "image" and "coco" in (args.protocol or ["coco"]),
    }
    resampled = [OCCLUSION_RULES[name].fp_policy == "all" for name in args.occlusion_rules or ()]
    found[RULES] = found[IMAGES] and (not args.compare or all(resampled))
    return {scope for scope, holds in found.items() if holds}


def find_misuse(args: argparse.Namespace) -> str | None:
    """Return the complaint about an unknown name or an option without effect, if there is one."""
    names = PROTOCOLS[args.task]
    unknown = [name for name in args.protocol or () if name not in names]
    if unknown:
        none = ", or no --protocol" if args.task == "video" else ""
        return (
            f"--protocol: expected one of {', '.join(names)}{none} for --task {args.task}, "
            f"got {', '.join(unknown)}"
        )
    scopes = find_scopes(args)
    for name, accepted in SCOPES.items():
        value = getattr(args, name)
        if value is None or value is False or scopes.intersection(accepted):
            continue
        call = ["--compare" if args.compare else "--pred", f"--task {args.task}"]
        call += [f"--protocol {' '.join(args.protocol)}"] if args.protocol else []
        call += [f"--metrics {','.join(args.metrics)}"] if args.metrics else []
        return (
            f"--{name.replace('_', '-')}: expected {' or '.join(accepted)}, got {' '.join(call)}; "
            "change that or leave it out"
        )
    return None


def metric_names(text: str) -> list[str]:
    """Split the value of ``--metrics``."""
    names = text.split(",")
    if not set(names) <= set(METRICS):
        raise argparse.ArgumentTypeError(f"expected {' or '.join(METRICS)} or both, got {text!r}")
    return names


def build_parser() -> argparse.ArgumentParser:
    """Declare the options of all tasks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gt", required=True, help="annotation file of the ground truth")
    predictions = parser.add_mutually_exclusive_group(required=True)
    predictions.add_argument(
        "--pred",
        nargs="+",
        help="prediction lists, tracks.json files, or folders with tracks.json files",
    )
    predictions.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="score two predictions and give intervals of their differences",
    )
    parser.add_argument("--task", choices=sorted(TASKS), default="video", help="what is scored")
    parser.add_argument(
        "--protocol",
        nargs="+",
        help=f"image: one or more of {', '.join(IMAGE_PROTOCOLS)} (coco); completion: one or more "
        f"of {', '.join(VARIANTS)} ({' '.join(DEFAULT_PROTOCOLS)}); video: "
        f"{' or '.join(TAO_PROTOCOLS)}, detection and track AP of boxes instead of the default "
        "(YTVIS, TrackEval)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at doubtful ground truth instead of warning"
    )
    parser.add_argument(
        "--skip-invalid",
        action="store_true",
        help="leave invalid ground-truth records out and count them instead of stopping",
    )
    add_row_options(parser)
    add_output_options(parser)
    return parser


def add_row_options(parser: argparse.ArgumentParser) -> None:
    """Declare what is computed beyond the rows that are always there."""
    group = parser.add_argument_group(
        "rows of the report", "an option without effect stops the command"
    )
    group.add_argument(
        "--metrics",
        type=metric_names,
        help="video: ap (AP and AR over tubes; the default), hota (HOTA, CLEAR and identity "
        "metrics), or ap,hota",
    )
    group.add_argument(
        "--boxes", action="store_true", help="video: add a row for the amodal boxes of the tracks"
    )
    group.add_argument(
        "--score-threshold",
        type=float,
        help="video: lowest score of the predictions that count for hota; AP takes all of them",
    )
    group.add_argument(
        "--class-agnostic",
        action="store_true",
        help="video, and coco of image: add rows that count all classes as one",
    )
    group.add_argument(
        "--occlusion-bins",
        action="store_true",
        help="video: add rows for tracks hidden by at most, and by more than, one half on average; "
        "coco of image: the same as --occlusion-rules cocoa; completion has its own parts, and no "
        "such option",
    )
    group.add_argument(
        "--occlusion-rules",
        nargs="+",
        choices=sorted(OCCLUSION_RULES),
        metavar="NAME",
        help="coco of image: add rows for objects by how much of them is hidden, in the bins of "
        f"{', '.join(OCCLUSION_RULES)} (one or more)",
    )
    group.add_argument(
        "--visible-as-amodal",
        action="store_true",
        help="video: add a row that scores the predicted visible masks as amodal predictions",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Declare what is written, and how a comparison is drawn."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", type=Path, metavar="DIR", help="also write report.html, report.json, report.csv"
    )
    group.add_argument("--output", help="also write the report or comparison to this JSON file")
    group.add_argument("--csv", help="also write the report to this CSV file (not of --compare)")
    group.add_argument(
        "--frames",
        type=Path,
        metavar="ROOT",
        help="folder of the frames: show the best and worst scenes in the HTML report of --out",
    )
    group.add_argument("--resamples", type=int, help=f"draws of --compare ({RESAMPLES})")
    group.add_argument("--seed", type=int, help=f"of the draws of --compare ({SEED})")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; stop with status 2 at options without effect."""
    parser = build_parser()
    args = parser.parse_args(argv)
    misuse = find_misuse(args)
    if misuse:
        parser.exit(2, f"{parser.prog}: error: {misuse}\n")
    for name, value in (("metrics", ["ap"]), ("resamples", RESAMPLES), ("seed", SEED)):
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def run_report(args: argparse.Namespace) -> str:
    """Score one prediction, write the files and return the text."""
    inputs = read_inputs(args, read_truth(args), args.pred)
    report = TASKS[args.task](args, inputs)
    out = args.out
    for path in filter(None, (args.output, out and out / "report.json")):
        report.to_json(path)
    for path in filter(None, (args.csv, out and out / "report.csv")):
        report.to_csv(path)
    if out:
        pictures = []
        if args.frames:
            # Importing the engine takes seconds, which only pictures need.
            from amodal2.engine.case_pictures import case_pictures

            pictures = case_pictures(inputs.dataset, inputs.records, report, args.frames)
        title = f"Evaluation ({args.task}) of {', '.join(args.pred)} on {args.gt}"
        write_html(out / "report.html", title, report, pictures=pictures)
    return str(report)


def run_comparison(args: argparse.Namespace) -> str:
    """Score two predictions, write the files and return the text."""
    dataset = read_truth(args)
    samplers = [
        TASKS[args.task](args, read_inputs(args, dataset, [path])).samplers for path in args.compare
    ]
    result = compare(*samplers, resamples=args.resamples, seed=args.seed)
    out = args.out
    for path in filter(None, (args.output, out and out / "comparison.json")):
        result.to_json(path)
    if out:
        title = f"Comparison ({args.task}) of A = {args.compare[0]} and B = {args.compare[1]}"
        write_html(out / "comparison.html", title, comparison=result)
    return str(result)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    args = parse_args(argv)
    setup_logging(logging.WARNING)
    try:
        text = run_comparison(args) if args.compare else run_report(args)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"evaluate.py: {error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
