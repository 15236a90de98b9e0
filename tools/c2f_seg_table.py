#!/usr/bin/env python
"""Complete market, aquarium and playroom with C2F-Seg and the baselines; print the tables.

Rows without weights are left out. Each result is kept in the output folder: whatever is killed goes
on at the next call, and what is there is not computed again. table.md and table.json are written
after each row.

Example::

    python tools/video_demo.py --config-file configs/a2vis/quick/a2vis_aquarium.yaml \\
        --score-threshold 0 --save json --input datasets/aquarium/val_0000? --output a2vis
    python tools/c2f_seg_table.py --out output/c2f_table --data datasets --tracks a2vis \\
        --images 100 --videos 8 --weights market=market.pth image=image.pth video=video.pth

    python tools/train_net.py --config-file configs/roi_heads/quick/mask_joint_market.yaml \\
        --eval-only OUTPUT_DIR output/detections
    python tools/c2f_seg_table.py --out output/c2f_table --data datasets \\
        --weights market=market.pth --detections \\
        output/detections/inference/market_v1_amodal_val/image_predictions.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal2.engine.completion import TrackCompletion
from amodal2.engine.dataset_completion import (
    Record,
    Scene,
    add_visible,
    annotated_scenes,
    complete_scene,
    completion_records,
    keep_objects,
    object_records,
    predicted_scenes,
    read_truth,
    track_records,
)
from amodal2.evaluation.completion import evaluate_completions
from amodal2.evaluation.image_predictions import check_image_predictions, load_record_lists
from amodal2.evaluation.image_protocols import evaluate_images
from amodal2.evaluation.prediction_files import load_video_predictions
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.modeling.completion import CompletionSettings
from amodal2.structures.image_json import ImageDataset
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.files import atomic_write, write_json

from benchmarks.c2f_seg_rows import ROWS, Row  # isort: skip

COLUMNS = ("full", "occ", "full_post", "occ_post")
PROTOCOLS = {True: ("c2f_image", "partly_hidden"), False: ("c2f_video", "c2f_image")}
"""Rules for images and for videos."""


@dataclass
class Set:
    """A dataset with what is to be completed in it.

    Attributes:
        name: of its column of results.
        truth: what is judged.
        scenes: what is completed.
        whole: all true objects, for average precision; None for annotated masks.
        matched: objects that a predicted track shows, to compare annotated with predicted masks.
    """

    name: str
    truth: VideoDataset | ImageDataset
    scenes: list[Scene]
    whole: VideoDataset | ImageDataset | None = None
    matched: VideoDataset | ImageDataset | None = None


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="datasets' root")
    parser.add_argument("--tracks", type=Path, metavar="PATH", help="of A2VIS on the aquarium")
    parser.add_argument("--detections", type=Path, metavar="FILE", help="in the market's images")
    parser.add_argument("--images", type=int, metavar="N", help="the first N of the market")
    parser.add_argument("--videos", type=int, metavar="N", help="the first N of each video set")
    parser.add_argument(
        "--weights", nargs="+", default=[], metavar="NAME=FILE", help="of the rows that need some"
    )
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows to compute")
    return parser.parse_args(argv)


def open_sets(args: argparse.Namespace) -> list[Set]:
    """Read the datasets that are there."""
    sets = []
    for name, limit in (
        ("market", args.images),
        ("aquarium", args.videos),
        ("playroom", args.videos),
    ):
        root = args.data / name
        if (root / "val.json").is_file():
            truth = read_truth(root / "val.json", limit)
            sets.append(Set(name, truth, annotated_scenes(truth, root)))
            found = {"market": args.detections, "aquarium": args.tracks}.get(name)
            if found is not None:
                sets.append(_with_predictions(sets[-1], root, found))
    return sets


def _with_predictions(one: Set, root: Path, file: Path) -> Set:
    """Return the same scenes with predicted objects, and note which true ones these show."""
    whole = read_truth(root / "val.json")
    if isinstance(whole, ImageDataset):
        records, _ = check_image_predictions(load_record_lists([file]), whole, file=file)
    else:
        records = load_video_predictions([file], whole)
    known = {scene.id for scene in one.scenes}
    records = [r for r in records if r.get("image_id", r.get("video_id")) in known]
    scenes = predicted_scenes(one.truth, root, records)
    one.matched = keep_objects(one.truth, scenes)
    return Set(f"{one.name}_predicted", one.matched, scenes, whole=one.truth)


def measure(row: Row, options: Sequence[str], one: Set) -> dict[str, Any]:
    """Complete a dataset and return all numbers of one row."""
    completion = None
    if row.completer:
        settings = CompletionSettings(compose="raw")
        completion = TrackCompletion.build(row.completer, options, settings, "dis")
    image = isinstance(one.truth, ImageDataset)
    raw: list[Record] = []
    post: list[Record] = []
    tracks: list[Record] = []
    start, objects = time.process_time(), 0
    for scene in one.scenes:
        found = complete_scene(completion, scene)[0] if completion else scene.tracks
        grown = add_visible(found)
        raw += completion_records(scene, [found], image=image)
        post += completion_records(scene, [grown], image=image)
        tracks += object_records(scene, grown) if image else track_records(scene, grown)
        objects += sum(mask is not None for track in found for mask in track.visible or [])
    seconds = time.process_time() - start
    result: dict[str, Any] = {
        "options": list(options),
        "object_frames": objects,
        "seconds": seconds,
        "scores": _scores(one.truth, raw, post),
    }
    if one.matched is not None:
        kept = {record["id"] for record in one.matched.annotations}
        chosen = [[r for r in part if r["gt_id"] in kept] for part in (raw, post)]
        result["matched"] = _scores(one.matched, *chosen)
    if isinstance(one.whole, ImageDataset):
        found = evaluate_images(one.whole, tracks, protocol="coco", details=False)
        result["tracks"] = found.percent()["amodal"]
    elif one.whole is not None:
        result["tracks"] = evaluate_video_tracks(one.whole, tracks).rows["amodal"].percent()
    return result


def _scores(
    truth: VideoDataset | ImageDataset, raw: list[Record], post: list[Record]
) -> dict[str, dict[str, float]]:
    """Return protocol -> metric -> percent; "post" of images has the given visible masks added."""
    protocols = PROTOCOLS[isinstance(truth, ImageDataset)]
    found = evaluate_completions(truth, raw, protocols=protocols).percent()
    if "c2f_image" in found:
        grown = evaluate_completions(truth, post, protocols=["c2f_image"]).percent()["c2f_image"]
        found["c2f_image"] |= {f"{key}_post": grown[key] for key in ("full", "occ")}
    return found


def write_table(out: Path, sets: Sequence[str]) -> str:
    """Write table.md and table.json from the results that are there; return the former."""
    results: dict[str, dict[str, Any]] = {}
    lines: list[str] = []
    for name in sets:
        own = {
            row.title: json.loads(path.read_text(encoding="utf-8"))
            for row in ROWS
            if (path := _result(out, row, name)).is_file()
        }
        results[name] = own
        for part in ("scores", "matched"):
            rules = dict.fromkeys(rule for one in own.values() for rule in one.get(part, {}))
            for rule in rules:
                rows = {title: one[part][rule] for title, one in own.items() if part in one}
                suffix = ", objects that a predicted track shows" if part == "matched" else ""
                lines += [f"\n**{name}, `{rule}`{suffix}**\n", *_markdown(rows)]
        tracks = {title: one["tracks"] for title, one in own.items() if "tracks" in one}
        if tracks:
            lines += [f"\n**{name}, tracks with the detector's scores**\n", *_markdown(tracks)]
    text = "\n".join(lines) + "\n"
    write_json(out / "table.json", results)
    with atomic_write(out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def _markdown(rows: dict[str, dict[str, float]]) -> list[str]:
    columns = list(dict.fromkeys(key for values in rows.values() for key in values))
    lines = ["| masks | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for title, values in rows.items():
        cells = (f"{values[key]:.1f}" if key in values else "-" for key in columns)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def _has_amodal(one: Set) -> bool:
    return all(track.amodal is not None for scene in one.scenes for track in scene.tracks)


def _result(out: Path, row: Row, name: str) -> Path:
    return out / f"{row.name}_{name}.json"


def main(argv: list[str] | None = None) -> int:
    """Compute what is missing; return the exit status."""
    args = parse_arguments(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    weights = dict(text.split("=", 1) for text in args.weights)
    sets = open_sets(args)
    for one in sets:
        for row in ROWS:
            options = row.options(weights, one.name)
            wanted = args.only is None or row.name in args.only
            if options is None or not wanted or _result(args.out, row, one.name).is_file():
                continue
            if not row.completer and not _has_amodal(one):
                continue
            print(f"c2f_seg_table: {row.title} on {one.name}", flush=True)
            write_json(_result(args.out, row, one.name), measure(row, options, one))
            write_table(args.out, [part.name for part in sets])
    print(write_table(args.out, [part.name for part in sets]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
