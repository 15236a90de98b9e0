#!/usr/bin/env python
"""Complete the visible masks of a whole dataset of images or videos and score the result.

Takes the annotated visible masks of every video, writes the completed ones as predictions for
tools/evaluate.py, and prints the mean IoU by the chosen protocols. With --tracks it takes the
visible masks of predicted tracks, prints AP, too, and the mean IoU is that of the objects that a
track fits (visible IoU of at least 0.5); --completer none leaves the tracks' own amodal masks.
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
        --option config=configs/savos/quick/savos_chewing_gum.yaml --classes betta --adapt \\
        --protocols partly_hidden,savos_fishbowl_filtered --output savos.json
    python tools/video_demo.py --config-file configs/a2vis/quick/a2vis_aquarium.yaml \\
        --input datasets/aquarium/val_0000? --output demo --save json --score 0
    python tools/complete_dataset.py --json datasets/aquarium/val.json --videos 10 \\
        --tracks demo --completer union --compose visible --output union.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from dataclasses import replace
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
from amodal2.evaluation.track_pairing import pair_tracks
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.modeling.completion import COMPLETER_REGISTRY, CompletionSettings
from amodal2.modeling.completion.video import COMPOSITIONS
from amodal2.structures.image_json import ImageDataset
from amodal2.structures.track import Track, VideoPrediction
from amodal2.structures.video_json import VideoDataset, read_video_json
from amodal2.utils.device import available_device
from amodal2.utils.errors import CheckpointError, VideoError
from amodal2.utils.files import atomic_write, write_json
from amodal2.utils.logging import get_logger, setup_logging
from amodal2.utils.optical_flow import video_flow

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
    parser.add_argument(
        "--completer",
        required=True,
        choices=["none", *sorted(name for name, _ in COMPLETER_REGISTRY)],
    )
    parser.add_argument(
        "--tracks", nargs="+", metavar="PATH", help="tracks.json files, or folders of them"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the completer; may be repeated",
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
        "--classes",
        type=lambda text: text.split(","),
        metavar="NAMES",
        help="complete and score only objects of these classes, separated by commas (default: all)",
    )
    parser.add_argument("--videos", type=int, metavar="N", help="only the first N videos")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the scores as JSON")
    parser.add_argument(
        "--protocols",
        type=lambda text: text.split(","),
        default=["partly_hidden", "savos_fishbowl_filtered"],
        metavar="LIST",
        help=f"of {','.join(VARIANTS)} (default: partly_hidden,savos_fishbowl_filtered)",
    )
    add_completer_arguments(parser, compose="raw")
    return parser.parse_args(argv)


def chosen_objects(dataset: VideoDataset, classes: list[str] | None) -> frozenset[int] | None:
    """Return the ids of the annotations of some classes; None stands for all."""
    if classes is None:
        return None
    ids = {category["name"]: category["id"] for category in dataset.categories}
    if not set(classes) <= set(ids):
        raise ValueError(f"--classes: expected some of {', '.join(ids)}, got {','.join(classes)}")
    wanted = {ids[name] for name in classes}
    return frozenset(one["id"] for one in dataset.annotations if one["category_id"] in wanted)


def first_videos(dataset: VideoDataset, count: int | None) -> VideoDataset:
    """Return the first videos of a dataset, all for None."""
    videos = dataset.videos[:count]
    kept = {video["id"] for video in videos}
    tracks = [one for one in dataset.annotations if one["video_id"] in kept]
    return replace(dataset, videos=videos, annotations=tracks)


def unpacked(record: dict[str, Any]) -> dict[str, Any]:
    """Return a predicted track with its masks as lists."""
    tubes = {key: list(value) for key, value in record.items() if key.endswith("segmentations")}
    return {**record, **tubes}


def complete_tracks(
    completion: TrackCompletion, video: dict[str, Any], records: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Complete predicted tracks of one video; return them with other amodal masks."""
    tracks = [
        Track(number, record["category_id"], record["score"], list(record["segmentations"]))
        for number, record in enumerate(records)
    ]
    samples = predict(completion, video, tracks)
    return [
        {
            "video_id": video["video_id"],
            "category_id": track.category_id,
            "score": track.score,
            "segmentations": track.visible,
            "amodal_segmentations": track.amodal,
        }
        for track in samples[0].tracks
    ]


def predict(
    completion: TrackCompletion, video: dict[str, Any], tracks: list[Track], **more: Any
) -> list[VideoPrediction]:
    """Complete tracks of one video of the dataset."""
    flow = video_flow(video, completion.flow, device=completion.settings.device)
    with open_frames(video.get("file_names") or video["file_name"]) as source:
        name = str(video["video_id"])
        return completion.predict(source, tracks, flow=flow, name=name, **more)


def complete(
    completion: TrackCompletion, video: dict[str, Any], only: Collection[int] | None
) -> list[dict[str, Any]]:
    """Complete the objects of one video; return records of predictions, one per sample."""
    tracks = [
        Track(record["id"], record["category_id"], 1.0, record["segmentations"])
        for record in video["annotations"]
        if not record["iscrowd"]
    ]
    truth = {
        record["id"]: record["amodal_segmentations"]
        for record in video["annotations"]
        if record["amodal_segmentations"] is not None
    }
    samples = predict(completion, video, tracks, truth=truth, only=only)
    return [
        {
            "gt_id": track.id,
            "video_id": video["video_id"],
            "sample": number,
            "amodal_segmentations": track.amodal,
        }
        for number, sample in enumerate(samples)
        for track in sample.tracks
    ]


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


def run(args: argparse.Namespace) -> str:
    """Complete and score what the command line asks for; return the scores as text."""
    completion = None
    if args.completer != "none":
        settings = CompletionSettings(compose=args.compose, device=available_device(args.device))
        completion = TrackCompletion.build(
            args.completer, args.option, settings, args.flow, adaptation_settings(args)
        )
    elif not args.tracks:
        raise ValueError("--completer none: expected --tracks, got annotations alone")
    dataset = first_videos(read_video_json(args.json), args.videos)
    only = chosen_objects(dataset, args.classes)
    videos = load_video_amodal_json(args.json, args.root or args.json.parent)[: args.videos]
    given: list[dict[str, Any]] = []
    if args.tracks:
        given = load_video_predictions(args.tracks, dataset)
    records = [] if completion else [unpacked(record) for record in given]
    for video in tqdm(videos if completion else [], unit=" videos"):
        assert completion is not None, "there are no videos without it"
        if args.tracks:
            own = [record for record in given if record["video_id"] == video["video_id"]]
            records += complete_tracks(completion, video, own)
        else:
            records += complete(completion, video, only)
    write_json(args.output, records)
    if completion is not None and completion.adapter is not None:
        write_adaptation(completion.adapter.histories, args.output)
    return score(args, dataset, records, only)


def score(
    args: argparse.Namespace,
    dataset: VideoDataset,
    records: list[dict[str, Any]],
    only: Collection[int] | None,
) -> str:
    """Score completions or completed tracks, and write the numbers if they are asked for."""
    tables, content = [], {}
    if args.tracks:
        tracks = evaluate_video_tracks(dataset, records, file=args.output, details=False)
        tables, content = [str(tracks)], {"tracks": tracks.to_dict()}
        records = pair_tracks(dataset, records)
        fitted = {record["gt_id"] for record in records}
        only = fitted if only is None else fitted & set(only)
    report = evaluate_completions(
        dataset, records, protocols=args.protocols, file=args.output, only=only
    )
    if args.report is not None:
        write_json(args.report, {**report.to_dict(), **content})
    return "\n\n".join([*tables, str(report)])


def main(argv: list[str] | None = None) -> int:
    """Complete and score; return the exit status."""
    args = parse_arguments(argv)
    setup_logging()
    try:
        text = run(args)
        completion = build_from_arguments(args)
        report = complete(args, completion)
        if completion.adapter is not None:
            write_adaptation(completion.adapter.histories, args.output)
    except (CheckpointError, VideoError, OSError, ValueError) as e:
        logger.error("%s", e)
        return 1
    logger.info("%s on %s\n%s", args.completer, args.json, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
