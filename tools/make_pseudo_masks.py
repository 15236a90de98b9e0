#!/usr/bin/env python
"""Make amodal masks for a dataset that has amodal boxes alone (Diffusion-VAS, Table 8).

Every object is cut out by its given amodal box, completed, and cut off at the box; the visible mask
is always inside. The new file has the masks as amodal_segmentations, and the given boxes as
given_amodal_bboxes; amodal_bboxes are those of the masks. Objects that are never visible are left
out, since nothing tells their shape.

Example, on TAO-Amodal with the visible masks of BURST:
    python datasets/prepare_tao_amodal.py amodal_annotations/validation_lvis_v1.json \\
        --masks BURST_annotations/val/val.json --out datasets/tao_amodal/val.json
    python tools/make_pseudo_masks.py --json datasets/tao_amodal/val.json \\
        --option weights=diffusion-vas-amodal-segmentation --option fps=2 \\
        --output datasets/tao_amodal/val_pseudo.json
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from amodal2.engine.completion import TrackCompletion
from amodal2.engine.content import show_steps
from amodal2.modeling.completion import CompletionSettings
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.rle import RLE, decode_rle, encode_mask, rle_area, rle_box
from amodal2.structures.track import Track
from amodal2.structures.video_json import read_video_json
from amodal2.utils.device import available_device
from amodal2.utils.errors import AnnotationError, CheckpointError, VideoError
from amodal2.utils.files import write_json
from amodal2.utils.frames import open_frames
from amodal2.utils.logging import get_logger, setup_logging

BOXES, GIVEN = "amodal_bboxes", "given_amodal_bboxes"

logger = get_logger("amodal2.make_pseudo_masks")


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
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the completer diffusion_vas; may be repeated",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default: cuda if there)")
    return parser.parse_args(argv)


def check_records(records: list[dict[str, Any]], file: Path) -> list[dict[str, Any]]:
    """Return the tracks that are visible somewhere; all must have amodal boxes."""
    for record in records:
        if BOXES not in record:
            raise AnnotationError(
                f"make_pseudo_masks: expected {BOXES} of every track, got none of track "
                f"{record['id']}",
                file=file,
            )
    seen = [record for record in records if any(record[VISIBLE_KEY])]
    if not seen:
        raise AnnotationError(
            "make_pseudo_masks: expected visible masks, got none; give those of BURST to "
            "datasets/prepare_tao_amodal.py with --masks",
            file=file,
        )
    if len(seen) < len(records):
        logger.warning("%d tracks without a visible mask left out", len(records) - len(seen))
    return seen


def inside(mask: RLE | None, box: list[float] | None, visible: RLE | None) -> RLE | None:
    """Cut a mask off at its box, and add the visible one."""
    if mask is None:
        return visible
    found = decode_rle(mask)
    if box is not None:
        x, y, width, height = box
        rows = slice(max(0, int(np.floor(y))), max(0, int(np.ceil(y + height))))
        columns = slice(max(0, int(np.floor(x))), max(0, int(np.ceil(x + width))))
        kept = np.zeros_like(found)
        kept[rows, columns] = found[rows, columns]
        found = kept
    if visible is not None:
        found = found | decode_rle(visible)
    return encode_mask(found) if found.any() else None


def fill(record: dict[str, Any], amodal: list[RLE | None]) -> None:
    """Put the masks of a track into its record."""
    given = record.pop(BOXES)
    places = zip(amodal, given, record[VISIBLE_KEY], strict=True)
    masks = [inside(*place) for place in places]
    record[GIVEN], record[AMODAL_KEY] = given, masks
    record[BOXES] = [None if mask is None else list(rle_box(mask)) for mask in masks]
    record["amodal_areas"] = [None if mask is None else rle_area(mask) for mask in masks]
    seen = (0 if mask is None else rle_area(mask) for mask in record[VISIBLE_KEY])
    areas = zip(seen, record["amodal_areas"], strict=True)
    record["occlusion_rates"] = [None if not whole else 1 - part / whole for part, whole in areas]


def complete(
    completion: TrackCompletion, video: dict[str, Any], records: list[dict[str, Any]], root: Path
) -> None:
    """Complete the tracks of one video; they are changed in place."""
    tracks = [Track(r["id"], r["category_id"], 1.0, r[VISIBLE_KEY]) for r in records]
    boxes = {record["id"]: record[BOXES] for record in records}
    names = video.get("file_names") or [video["file_name"]]
    paths = [os.path.join(root, name) for name in names]
    with open_frames(paths if video.get("file_names") else paths[0]) as source:
        (found,) = completion.predict(source, tracks, boxes=boxes)
    for record, track in zip(records, found.tracks, strict=True):
        fill(record, track.amodal or [])


def main(argv: list[str] | None = None) -> int:
    """Complete a dataset; return the exit status."""
    args = parse_arguments(argv)
    setup_logging()
    try:
        dataset = read_video_json(args.json)
        records = check_records(dataset.annotations, args.json)
        settings = CompletionSettings(device=available_device(args.device))
        options = [*args.option, "protocol=boxes", "samples=1"]
        completion = TrackCompletion.build("diffusion_vas", options, settings, "auto")
        with tqdm(dataset.videos, unit=" videos") as bar:
            show_steps(completion.completer, bar.set_postfix_str)
            for video in bar:
                own = [record for record in records if record["video_id"] == video["id"]]
                if own:
                    complete(completion, video, own, args.root or args.json.parent)
        content = {
            "info": {"description": "pseudo amodal masks of given boxes", "options": args.option},
            "videos": dataset.videos,
            "categories": dataset.categories,
            "annotations": records,
        }
        write_json(args.output, content)
    except (CheckpointError, VideoError, OSError, ValueError) as e:
        logger.error("%s", e)
        return 1
    logger.info("%d tracks in %s", len(records), args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
