#!/usr/bin/env python
"""Find the objects of videos with their hidden parts, and draw them.

Each input (a video file, a folder of images, or a pattern of them) gives overlay.mp4 and
tracks.json: in OUTPUT itself for one input, in OUTPUT/<name> for several. A camera or stream is
tracked until it ends or Ctrl-C is pressed, and gives overlay.mp4 and tracks.jsonl.

Examples:
    python tools/video_demo.py --config-file configs/a2vis/quick/a2vis_aquarium.yaml \\
        --input clip.mp4 --output out
    python tools/video_demo.py --config-file CONFIG --input "videos/*.mp4" frames/ --output out \\
        --save overlay,masks,sidebyside,coco,ytvis,attention --score 0.3 --opts MODEL.DEVICE cpu
    python tools/video_demo.py --config-file CONFIG --input camera:0 --output out --classes fish,ray
    python tools/video_demo.py --config-file CONFIG --input rtsp://host/stream --output out
    python tools/video_demo.py --config-file CONFIG --input clip.mp4 --output out --completer union
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from detectron2.config import CfgNode
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from amodal2 import model_zoo
from amodal2.config import get_cfg
from amodal2.data.datasets import dataset_categories
from amodal2.engine.completion import (
    TrackCompletion,
    adaptation_settings,
    add_adaptation_arguments,
)
from amodal2.engine.content import (
    CONTENT_FOLDER,
    add_content_arguments,
    content_options,
    show_steps,
)
from amodal2.modeling.completion import COMPLETER_REGISTRY, CompletionSettings
from amodal2.utils.device import available_device
from amodal2.utils.errors import CheckpointError, VideoError
from amodal2.utils.logging import get_logger, setup_logging
from amodal2.video.content import ContentWriter
from amodal2.video.reader import LiveInput, VideoInput, find_inputs
from amodal2.video.run import SAVEABLE, process_video
from amodal2.video.run_live import LIVE_SAVEABLE, process_stream
from amodal2.video.streaming import PredictorSettings, StreamingModel

logger = get_logger("amodal2.video_demo")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="yaml file")
    parser.add_argument(
        "--input",
        required=True,
        nargs="+",
        metavar="PATH",
        help="video files, folders, patterns, camera:NUMBER, or URLs of streams (rtsp://...)",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--save",
        type=parse_save,
        default="overlay,json",
        metavar="LIST",
        help=f"of {','.join(sorted(SAVEABLE))}, separated by commas (default: overlay,json); "
        f"streams: of {','.join(sorted(LIVE_SAVEABLE))}",
    )
    parser.add_argument(
        "--classes",
        type=lambda text: text.split(","),
        metavar="NAMES",
        help="only these classes, separated by commas (default: all)",
    )
    parser.add_argument(
        "--score",
        "--score-threshold",
        dest="score",
        type=float,
        default=0.5,
        help="lowest score of a track (default: 0.5)",
    )
    parser.add_argument(
        "--max-gone",
        type=int,
        metavar="FRAMES",
        help="frames for which an object without any mask keeps its id (default: for ever; "
        "streams: five seconds)",
    )
    parser.add_argument(
        "--fps", type=float, default=25.0, help="frames per second of image folders (default: 25)"
    )
    parser.add_argument(
        "--completer",
        choices=sorted(name for name, _ in COMPLETER_REGISTRY),
        help="complete the visible masks by this method in place of the model",
    )
    parser.add_argument(
        "--completer-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the completer; may be repeated",
    )
    parser.add_argument(
        "--flow",
        default="auto",
        metavar="SOURCE",
        help="optical flow for the completer, see tools/complete_masks.py (default: auto)",
    )
    add_content_arguments(parser)
    add_adaptation_arguments(parser)
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config keys"
    )
    args = parser.parse_args(argv)
    if args.completer is None and (args.content or args.samples or args.depth):
        parser.error("--content, --samples and --depth need --completer")
    return args


def parse_save(text: str) -> frozenset[str]:
    """Read the list of what to save."""
    names = frozenset(text.split(","))
    if not names <= SAVEABLE:
        unknown = ", ".join(sorted(names - SAVEABLE))
        raise argparse.ArgumentTypeError(f"expected some of {sorted(SAVEABLE)}, got {unknown!r}")
    return names


def load_model(args: argparse.Namespace) -> tuple[CfgNode, StreamingModel]:
    """Build the model of the config file and load its weights."""
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    if not cfg.MODEL.WEIGHTS:
        logger.warning("MODEL.WEIGHTS is empty: the weights are random, the tracks mean nothing")
    model = model_zoo.load_model(cfg)
    if not hasattr(model, "forward_clip"):
        raise ValueError(
            "video_demo: expected a config of a system for videos, such as AmodalTrackRCNN, got "
            f"{cfg.MODEL.META_ARCHITECTURE}, which works on images; use tools/image_demo.py"
        )
    return cfg, model


def number_of_classes(cfg: CfgNode) -> int:
    """Return the number of classes of the model's head."""
    node = cfg.MODEL
    boxes = node.META_ARCHITECTURE == "AmodalTrackRCNN"
    return node.ROI_HEADS.NUM_CLASSES if boxes else node.SEM_SEG_HEAD.NUM_CLASSES


def chosen_classes(wanted: list[str] | None, names: Mapping[int, str]) -> frozenset[int] | None:
    """Return the category ids of the classes that the user names; None stands for all."""
    if wanted is None:
        return None
    unknown = sorted(set(wanted) - set(names.values()))
    if unknown:
        known = ", ".join(names.values())
        raise ValueError(f"--classes: expected some of {known}, got {', '.join(unknown)}")
    return frozenset(key for key, name in names.items() if name in wanted)


def make_settings(
    args: argparse.Namespace, cfg: CfgNode, names: Mapping[int, str]
) -> PredictorSettings:
    """Translate command line and config."""
    return PredictorSettings(
        short_edge=cfg.INPUT.MIN_SIZE_TEST,
        longest_edge=cfg.INPUT.MAX_SIZE_TEST,
        top_k=cfg.TEST.AMODAL.TOPK,
        score_threshold=args.score,
        min_visible_px=cfg.TEST.AMODAL.MIN_VISIBLE_PX,
        union_visible=cfg.TEST.AMODAL.UNION_VISIBLE,
        mask_quality=cfg.TEST.AMODAL.MASK_QUALITY,
        max_gone_frames=args.max_gone,
        category_ids=list(names),
        classes=chosen_classes(args.classes, names),
        spool_dir=args.output,
    )


def process(
    video: VideoInput | LiveInput,
    model: StreamingModel,
    settings: PredictorSettings,
    names: Mapping[int, str],
    args: argparse.Namespace,
    folder: Path,
    completion: TrackCompletion | None,
) -> None:
    """Work on one input."""
    common = {"save": args.save, "progress": show_bar}
    if isinstance(video, LiveInput):
        if completion is not None:
            raise ValueError("--completer: expected a recorded video, got a stream")
        with video.open() as stream:
            process_stream(stream, model, settings, folder, names, **common)
    else:
        complete = completion
        if completion is not None and args.content:
            complete = partial(completion, on_content=ContentWriter(folder / CONTENT_FOLDER))
        process_video(
            video, model, settings, folder, names, fps=args.fps, complete=complete, **common
        )


def make_completion(args: argparse.Namespace, cfg: CfgNode) -> TrackCompletion | None:
    """Make the completer that the command line names, if any."""
    if args.completer is None:
        return None
    settings = CompletionSettings(device=cfg.MODEL.DEVICE)
    options, depth = content_options(args)
    completion = TrackCompletion.build(
        args.completer,
        [*args.completer_option, *options],
        settings,
        args.flow,
        adaptation_settings(args),
        depth,
    )
    steps = tqdm(desc="denoising", bar_format="{desc}: {postfix}", leave=False)
    show_steps(completion.completer, steps.set_postfix_str)
    return completion


def show_bar(title: str, total: int | None) -> tqdm:
    """Return a progress bar with frames per second."""
    return tqdm(desc=title, total=total, unit=" frames", dynamic_ncols=True)


def main(argv: list[str] | None = None) -> int:
    """Work on all inputs; the exit status is 0 only if every one succeeded."""
    args = parse_arguments(argv)
    package_logger = setup_logging()
    inputs, problems = find_inputs(args.input)
    for problem in problems:
        logger.error("%s", problem)
    failed = len(problems)
    if not inputs:
        return 1
    try:
        cfg, model = load_model(args)
        dataset = cfg.DATASETS.TEST[0] if cfg.DATASETS.TEST else ""
        names = dataset_categories(dataset, number_of_classes(cfg))
        settings = make_settings(args, cfg, names)
        completion = make_completion(args, cfg)
        args.output.mkdir(parents=True, exist_ok=True)
    except (CheckpointError, OSError, KeyError, ValueError, AssertionError) as e:
        logger.error("%s: %s", type(e).__name__, e)
        return 1
    for video in inputs:
        folder = args.output if len(inputs) == 1 and not problems else args.output / video.name
        try:
            with logging_redirect_tqdm([package_logger]):
                process(video, model, settings, names, args, folder, completion)
            logger.info("%s: done, results in %s", video.name, folder)
        except (VideoError, OSError, ValueError) as e:
            logger.error("%s: %s", video.name, e)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the files that were complete stay")
