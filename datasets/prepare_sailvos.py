"""SAIL-VOS, curated by Diffusion-VAS or raw: to the JSON of video datasets.

    python datasets/prepare_sailvos.py --root datasets/sailvos
    python datasets/prepare_sailvos.py --root datasets/sailvos --split val --raw SAILVOS_2D/val

The first reads ROOT/diffusion_vas_sailvos_{train,val}.json and writes ROOT/{train,val}.json, the
second reads the clips of one split below ROOT/SAILVOS_2D/val and writes ROOT/raw_val.json; the
trees are in datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from amodal2.data.importers.command import PROBLEMS, convert_videos
from amodal2.data.importers.sailvos import CLASS_AGNOSTIC, read_sailvos
from amodal2.data.importers.sailvos_raw import read_sailvos_raw
from amodal2.data.importers.shot_cuts import CONTENT_THRESHOLD, split_at_cuts
from amodal2.data.importers.video_import import SourceVideo
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import read_json

SPLITS = ("train", "val")
SEQUENCES = 21_237
"""Published number of sequences, both splits together."""
CATEGORIES = 162
"""Published number of classes of SAIL-VOS."""
CLIPS = {"train": 160, "val": 41}
"""Published number of clips of the raw SAIL-VOS by split."""

logger = logging.getLogger("prepare_sailvos")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument(
        "--frames",
        default="SAILVOS_2D",
        metavar="DIR",
        help="folder of the frames below ROOT (SAILVOS_2D)",
    )
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help='JSON {"category id": "name"}; default: one category, since the files have no names',
    )
    parser.add_argument(
        "--skip-unnamed",
        action="store_true",
        help="with --names: leave out objects of categories that have no name there",
    )
    parser.add_argument(
        "--raw",
        metavar="DIR",
        help="folder of the clips of the one split below ROOT: read the raw SAIL-VOS",
    )
    parser.add_argument(
        "--folder-classes",
        action="store_true",
        help="(--raw) categories from the names of the objects' folders; default: one category",
    )
    parser.add_argument(
        "--split-cuts",
        type=float,
        nargs="?",
        const=CONTENT_THRESHOLD,
        metavar="THRESHOLD",
        help="look for camera cuts left in the sequences by PySceneDetect and split there "
        f"(threshold {CONTENT_THRESHOLD:g})",
    )
    return parser


def read_names(file: Path) -> dict[int, str]:
    """Read the names of the categories, in the order of their ids."""
    content = read_json(file, "read_names")
    try:
        names = {int(key): str(name) for key, name in content.items()}
    except (AttributeError, ValueError) as error:
        raise AnnotationError(
            f'read_names: expected JSON {{"category id": "name"}}, got {error}', file=file
        ) from error
    if not names or len(set(names.values())) != len(names):
        raise AnnotationError(
            f"read_names: expected at least one name, each once, got {list(names.values())!r:.80}",
            file=file,
        )
    return dict(sorted(names.items()))


def convert(args: argparse.Namespace, split: str, names: dict[int, str] | None) -> Counter[str]:
    """Convert one split; return what was counted, nothing if it could not be read."""
    report: Counter[str] = Counter()
    source = args.root / f"diffusion_vas_sailvos_{split}.json"

    def read() -> Iterable[SourceVideo]:
        videos = read_sailvos(source, args.frames, report, names, skip_unnamed=args.skip_unnamed)
        if args.split_cuts is None:
            return videos
        return split_at_cuts(videos, args.root, report, args.split_cuts)

    categories = [CLASS_AGNOSTIC] if names is None else list(names.values())
    if convert_videos(read, args.root / f"{split}.json", logger, categories=categories):
        return Counter()
    for what, count in report.items():
        logger.info("%10d %s", count, what)
    return report


def convert_raw(args: argparse.Namespace, split: str) -> int:
    """Convert the raw clips of a split; return the exit status."""
    report: Counter[str] = Counter()

    def read() -> Iterable[SourceVideo]:
        videos = read_sailvos_raw(
            args.root / args.raw, args.root, report, folder_classes=args.folder_classes
        )
        if args.split_cuts is None:
            return videos
        return split_at_cuts(videos, args.root, report, args.split_cuts)

    categories = None if args.folder_classes else [CLASS_AGNOSTIC]
    status = convert_videos(read, args.root / f"raw_{split}.json", logger, categories=categories)
    for what, count in report.items():
        if count and not status:
            logger.info("%10d %s", count, what)
    if not status and report["clips"] != CLIPS[split]:
        logger.warning("clips: %d published, %d found", CLIPS[split], report["clips"])
    return status


def main(arguments: list[str] | None = None) -> int:
    """Convert the splits; return the exit status."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.raw is not None:
        if len(args.split) != 1 or args.names is not None:
            parser.error("--raw needs one --split and takes no --names")
        return convert_raw(args, args.split[0])
    if args.folder_classes:
        parser.error("--folder-classes goes with --raw")
    try:
        names = None if args.names is None else read_names(args.names)
        reports = [convert(args, split, names) for split in args.split]
    except PROBLEMS as error:
        logger.error("prepare_sailvos: %s", error)
        return 2
    if not all(reports):
        return 2
    if set(args.split) == set(SPLITS):
        found = sum(report["sequences (one object in one video)"] for report in reports)
        if found != SEQUENCES:
            logger.warning("sequences: %d published, %d found", SEQUENCES, found)
    most = max(report["categories of the source"] for report in reports)
    if most > CATEGORIES:
        logger.warning("categories: %d published, %d found", CATEGORIES, most)
    return 0


if __name__ == "__main__":
    sys.exit(main())
