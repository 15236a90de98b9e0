#!/usr/bin/env python
"""Complete the visible masks of a whole dataset of images or videos and score the result.

Takes the annotated visible masks, writes the completed ones as predictions for tools/evaluate.py
--task completion, and prints the mean IoU by the chosen protocols. With --tracks it completes the
visible masks of predicted tracks instead, writes predictions for tools/evaluate.py --task video,
prints AP, too, and the mean IoU is that of the true objects that a track shows (visible IoU of at
least 0.5); --completer none leaves the tracks' own amodal masks.

Examples:
    python tools/complete_dataset.py --json datasets/chewing_gum_paper/test.json \\
        --completer union --output union.json
    python tools/complete_dataset.py --json datasets/market/val.json --completer convex \\
        --protocols c2f_image --output convex.json
    python tools/complete_dataset.py --json datasets/aquarium/val.json --completer savos \\
        --option config=configs/savos/quick/savos_chewing_gum.yaml --classes betta --adapt \\
        --protocols partly_hidden,savos_fishbowl_filtered --output savos.json
    python tools/video_demo.py --config-file configs/a2vis/quick/a2vis_aquarium.yaml \\
        --input datasets/aquarium/val_0000? --output demo --save json --score 0
    python tools/complete_dataset.py --json datasets/aquarium/val.json --limit 10 \\
        --tracks demo --completer union --compose visible --output union.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from amodal2.engine.adaptation import AdaptationHistory, draw_histories
from amodal2.engine.completion import (
    add_completer_arguments,
    build_from_arguments,
)
from amodal2.engine.dataset_completion import (
    Scene,
    annotated_scenes,
    complete_scene,
    completion_records,
    predicted_scenes,
    read_truth,
    track_records,
)
from amodal2.evaluation.completion import evaluate_completions
from amodal2.evaluation.completion_variants import VARIANTS
from amodal2.evaluation.prediction_files import load_video_predictions
from amodal2.evaluation.video_tracks import evaluate_video_tracks
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
        nargs="+",
        metavar="PATH",
        help="predicted tracks to complete instead of the annotated masks: tracks.json files, "
        "folders of them, or predictions",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="the first N images or videos (default: all)"
    )
    parser.add_argument(
        "--classes",
        type=lambda text: text.split(","),
        metavar="NAMES",
        help="complete and score only objects of these classes, separated by commas (default: all)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the scores as JSON")
    parser.add_argument(
        "--protocols",
        type=lambda text: text.split(","),
        default=["partly_hidden", "savos_fishbowl_filtered"],
        metavar="LIST",
        help=f"of {','.join(VARIANTS)} (default: partly_hidden,savos_fishbowl_filtered)",
    )
    add_completer_arguments(parser, compose="raw", more=("none",))
    parser.add_argument("--samples", type=int, metavar="K", help="per object (diffusion_vas)")
    parser.add_argument(
        "--depth",
        choices=("order",),
        help="give the true order of the objects, of rendered scenes, as depth (diffusion_vas)",
    )
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
    scenes = predicted_scenes(dataset, root, load_video_predictions(args.tracks, dataset))
    shown, total = sum(len(scene.objects) for scene in scenes), len(dataset.annotations)
    logger.info("%d of %d objects are shown by a track", shown, total)
    return dataset, scenes


def chosen_objects(
    dataset: VideoDataset | ImageDataset, classes: list[str] | None
) -> frozenset[int] | None:
    """Return the ids of the annotations of some classes; None stands for all."""
    if classes is None:
        return None
    ids = {category["name"]: category["id"] for category in dataset.categories}
    if not set(classes) <= set(ids):
        raise ValueError(f"--classes: expected some of {', '.join(ids)}, got {','.join(classes)}")
    wanted = {ids[name] for name in classes}
    return frozenset(one["id"] for one in dataset.annotations if one["category_id"] in wanted)


def run(args: argparse.Namespace) -> str:
    """Complete everything, write the predictions and return their scores as text."""
    options = ["depth=given"] if args.depth else []
    options += [f"samples={args.samples}"] if args.samples is not None else []
    completion = None if args.completer == "none" else build_from_arguments(args, options)
    if completion is None and not args.tracks:
        raise ValueError("--completer none: expected --tracks, got annotations alone")
    dataset, scenes = read_scenes(args)
    only = chosen_objects(dataset, args.classes)
    completed = only if args.tracks is None else None
    judged: list[dict[str, Any]] = []
    tracks: list[dict[str, Any]] = []
    for scene in tqdm(scenes, unit=" scenes"):
        samples = [scene.tracks]
        if completion is not None:
            depth = scene.true_depth() if args.depth else None
            samples = complete_scene(completion, scene, completed, depth)
        judged += completion_records(scene, samples, image=isinstance(dataset, ImageDataset))
        tracks += track_records(scene, samples[0])
    write_json(args.output, judged if args.tracks is None else tracks)
    if completion is not None and completion.adapter is not None:
        write_adaptation(completion.adapter.histories, args.output)
    return score(args, dataset, judged, tracks, only)


def score(
    args: argparse.Namespace,
    dataset: VideoDataset | ImageDataset,
    judged: list[dict[str, Any]],
    tracks: list[dict[str, Any]],
    only: Collection[int] | None,
) -> str:
    """Score completions, and the tracks they complete, and write the numbers if asked to."""
    tables, content = [], {}
    if args.tracks is not None and isinstance(dataset, VideoDataset):
        found = evaluate_video_tracks(dataset, tracks, file=args.output, details=False)
        tables, content = [str(found)], {"tracks": found.to_dict()}
        shown = {record["gt_id"] for record in judged}
        only = shown if only is None else shown & set(only)
    report = evaluate_completions(
        dataset, judged, protocols=args.protocols, file=args.output, only=only
    )
    if args.report is not None:
        write_json(args.report, {**report.to_dict(), **content})
    return "\n\n".join([*tables, str(report)])


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
        text = run(args)
    except (CheckpointError, VideoError, OSError, ValueError) as e:
        logger.error("%s", e)
        return 1
    logger.info("%s on %s\n%s", args.completer, args.json, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
