#!/usr/bin/env python
"""Complete the visible masks of a whole dataset of images or videos and score the result.

Takes the annotated visible masks, writes the completed ones as predictions for tools/evaluate.py
--task completion, and prints the mean IoU by the chosen protocols. With --tracks it completes the
visible masks of predicted tracks instead, writes predictions for tools/evaluate.py --task video,
and judges the true objects that a track shows.

Examples:
    python tools/complete_dataset.py --json datasets/chewing_gum_paper/test.json \\
        --completer union --output union.json
    python tools/complete_dataset.py --json datasets/market/val.json --completer convex \\
        --protocols c2f_image --output convex.json
    python tools/complete_dataset.py --json datasets/aquarium/val.json --completer savos \\
        --option config=configs/savos/quick/savos_chewing_gum.yaml --option weights=model.pth \\
        --protocols partly_hidden,savos_fishbowl_filtered --output savos.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from amodal2.engine.adaptation import AdaptationHistory, draw_histories
from amodal2.engine.completion import (
    TrackCompletion,
    add_completer_arguments,
    build_from_arguments,
)
from amodal2.engine.dataset_completion import (
    Scene,
    annotated_scenes,
    complete_scene,
    completion_records,
    keep_objects,
    predicted_scenes,
    read_truth,
    track_records,
)
from amodal2.evaluation.completion import CompletionReport, evaluate_completions
from amodal2.evaluation.completion_variants import VARIANTS
from amodal2.evaluation.prediction_files import load_video_predictions
from amodal2.structures.image_json import ImageDataset
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.errors import CheckpointError, VideoError
from amodal2.utils.files import atomic_write, write_json
from amodal2.utils.logging import get_logger, setup_logging

logger = get_logger("amodal2.complete_dataset")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", required=True, type=Path, metavar="FILE", help="annotations")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="of its paths (default: beside it)"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="predictions")
    parser.add_argument(
        "--tracks",
        type=Path,
        metavar="PATH",
        help="predictions with visible masks, of videos, to complete instead of the annotated ones",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="the first N images or videos (default: all)"
    )
    parser.add_argument(
        "--protocols",
        type=lambda text: text.split(","),
        default=["partly_hidden", "savos_fishbowl_filtered"],
        metavar="LIST",
        help=f"of {','.join(VARIANTS)} (default: partly_hidden,savos_fishbowl_filtered)",
    )
    add_completer_arguments(parser, compose="raw")
    return parser.parse_args(argv)


def read_scenes(
    args: argparse.Namespace,
) -> tuple[VideoDataset | ImageDataset, list[Scene]]:
    """Return the ground truth that is judged and what is to be completed."""
    dataset, root = read_truth(args.json, args.limit), args.root or args.json.parent
    if args.tracks is None:
        return dataset, annotated_scenes(dataset, root)
    if not isinstance(dataset, VideoDataset):
        raise ValueError(f"--tracks: expected annotations of videos, got images in {args.json}")
    scenes = predicted_scenes(dataset, root, load_video_predictions([args.tracks], dataset))
    judged = keep_objects(dataset, scenes)
    logger.info(
        "%d of %d objects are shown by a track",
        len(judged.annotations),
        len(dataset.annotations),
    )
    return judged, scenes


def complete(args: argparse.Namespace, completion: TrackCompletion) -> CompletionReport:
    """Complete everything, write the predictions and return their scores."""
    dataset, scenes = read_scenes(args)
    judged: list[dict[str, Any]] = []
    tracks: list[dict[str, Any]] = []
    for scene in tqdm(scenes, unit=" scenes"):
        samples = complete_scene(completion, scene)
        judged += completion_records(scene, samples, image=isinstance(dataset, ImageDataset))
        tracks += track_records(scene, samples[0])
    write_json(args.output, judged if args.tracks is None else tracks)
    return evaluate_completions(dataset, judged, protocols=args.protocols, file=args.output)


def write_adaptation(histories: dict[str, AdaptationHistory], output: Path) -> None:
    """Write what adaptation did to every video beside the predictions, and draw the mean."""
    adapted = {name: one for name, one in histories.items() if one.loss}
    write_json(
        output.with_name(f"{output.stem}_adaptation.json"),
        {name: vars(one) for name, one in adapted.items()},
    )
    if any(len(one.loss) > 1 for one in adapted.values()):
        with atomic_write(output.with_name(f"{output.stem}_adaptation.svg")) as temporary:
            temporary.write_text(draw_histories(adapted), encoding="utf-8")
    seconds = sum(one.seconds for one in adapted.values())
    steps = sum(len(one.loss) for one in adapted.values())
    logger.info("adaptation: %d iterations and %.1f s on %d videos", steps, seconds, len(adapted))


def main(argv: list[str] | None = None) -> int:
    """Complete and score; return the exit status."""
    args = parse_arguments(argv)
    setup_logging()
    try:
        completion = build_from_arguments(args)
        report = complete(args, completion)
        if completion.adapter is not None:
            write_adaptation(completion.adapter.histories, args.output)
    except (CheckpointError, VideoError, OSError, ValueError) as e:
        logger.error("%s", e)
        return 1
    logger.info("%s on %s\n%s", args.completer, args.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
