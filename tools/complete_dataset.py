#!/usr/bin/env python
"""Complete the visible masks of a whole dataset and score the result.

Takes the annotated visible masks of every video, writes the completed ones as predictions for
tools/evaluate.py, and prints the mean IoU by the chosen protocols.

Examples:
    python tools/complete_dataset.py --json datasets/chewing_gum_paper/test.json \\
        --completer union --output union.json
    python tools/complete_dataset.py --json datasets/aquarium/val.json --completer savos \\
        --option config=configs/savos/quick/savos_chewing_gum.yaml --option weights=model.pth \\
        --protocols partly_hidden,savos_fishbowl_filtered --output savos.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from amodal2.data.datasets.video_amodal import load_video_amodal_json
from amodal2.engine.adaptation import AdaptationHistory, draw_histories
from amodal2.engine.completion import (
    TrackCompletion,
    adaptation_settings,
    add_adaptation_arguments,
)
from amodal2.evaluation.completion import evaluate_completions
from amodal2.evaluation.completion_variants import VARIANTS
from amodal2.modeling.completion import COMPLETER_REGISTRY, CompletionSettings
from amodal2.modeling.completion.video import COMPOSITIONS
from amodal2.structures.rle import decode_rle, rle_area, rle_box
from amodal2.structures.track import Track
from amodal2.structures.video_json import read_video_json
from amodal2.utils.depth import DepthSource, layered_depth
from amodal2.utils.device import available_device
from amodal2.utils.errors import CheckpointError, VideoError
from amodal2.utils.files import atomic_write, write_json
from amodal2.utils.frames import open_frames
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
    parser.add_argument(
        "--completer", required=True, choices=sorted(name for name, _ in COMPLETER_REGISTRY)
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
        "--flow", default="auto", help="optical flow of videos that have none stored (auto)"
    )
    parser.add_argument("--compose", choices=COMPOSITIONS, default="raw", help="(default: raw)")
    parser.add_argument(
        "--protocols",
        type=lambda text: text.split(","),
        default=["partly_hidden", "savos_fishbowl_filtered"],
        metavar="LIST",
        help=f"of {','.join(VARIANTS)} (default: partly_hidden,savos_fishbowl_filtered)",
    )
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default: cuda if there)")
    parser.add_argument("--samples", type=int, metavar="K", help="per object (diffusion_vas)")
    parser.add_argument(
        "--depth",
        choices=("order",),
        help="give the true order of the objects, of rendered scenes, as depth (diffusion_vas)",
    )
    add_adaptation_arguments(parser)
    return parser.parse_args(argv)


class TrueDepth(DepthSource):
    """Layers of the objects of a video whose order is known."""

    def __init__(self, video: dict[str, Any]) -> None:
        """Take a video with ``depth_order``."""
        if video.get("depth_order") is None:
            raise VideoError(
                f"--depth order: expected the depth_order of video {video['video_id']}, got none"
            )
        self._order = video["depth_order"]
        self._tubes = {record["id"]: record["segmentations"] for record in video["annotations"]}

    def __call__(self, frame: np.ndarray, index: int) -> np.ndarray:
        """Return the layers of a frame, see ``DepthSource``."""
        tubes = [self._tubes[i][index] for i in self._order[index] if i in self._tubes]
        masks = [decode_rle(rle).astype(bool) for rle in tubes if rle is not None]
        empty = np.zeros((0, *frame.shape[:2]), bool)
        return layered_depth(np.stack(masks) if masks else empty, len(self._tubes))


def true_boxes(truth: dict[int, Any]) -> dict[int, list[Any]]:
    """Return the boxes of the amodal masks, for completers that cut objects out by them."""
    return {
        number: [rle_box(rle) if rle and rle_area(rle) else None for rle in tube]
        for number, tube in truth.items()
    }


def complete(
    completion: TrackCompletion, video: dict[str, Any], *, true_depth: bool = False
) -> list[dict[str, Any]]:
    """Complete the objects of one video; return records of predictions, one per sample."""
    tracks = [
        Track(record["id"], record["category_id"], 1.0, record["segmentations"])
        for record in video["annotations"]
        if not record["iscrowd"]
    ]
    stored = video.get("flow_file")
    truth = {
        record["id"]: record["amodal_segmentations"]
        for record in video["annotations"]
        if record["amodal_segmentations"] is not None
    }
    with open_frames(video.get("file_names") or video["file_name"]) as source:
        samples = completion.predict(
            source,
            tracks,
            flow=stored,
            name=str(video["video_id"]),
            truth=truth,
            depth=TrueDepth(video) if true_depth else None,
            boxes=true_boxes(truth) if completion.completer.rule.follow == "boxes" else None,
        )
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
        settings = CompletionSettings(compose=args.compose, device=available_device(args.device))
        options = [*args.option, *(["depth=given"] if args.depth else [])]
        options += [f"samples={args.samples}"] if args.samples is not None else []
        completion = TrackCompletion.build(
            args.completer, options, settings, args.flow, adaptation_settings(args)
        )
        videos = load_video_amodal_json(args.json, args.root or args.json.parent)
        records: list[dict[str, Any]] = []
        for video in tqdm(videos, unit=" videos"):
            records += complete(completion, video, true_depth=args.depth is not None)
        write_json(args.output, records)
        if completion.adapter is not None:
            write_adaptation(completion.adapter.histories, args.output)
        report = evaluate_completions(
            read_video_json(args.json), records, protocols=args.protocols, file=args.output
        )
    except (CheckpointError, VideoError, OSError, ValueError) as e:
        logger.error("%s", e)
        return 1
    logger.info("%s on %s\n%s", args.completer, args.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
