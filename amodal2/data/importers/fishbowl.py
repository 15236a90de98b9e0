"""FISHBOWL (Common Fate), as its simulator writes it: one split with 128 frames per video.

The expected tree::

    ROOT/<split>_frames/<video>/*.png
    ROOT/<split>/<video>/objects.json                    visible masks of all fish
    ROOT/<split>_objects/<video>_object<k>/objects.json  one fish rendered alone: its amodal masks

``objects.json`` is a list of {"id", "type_name", "masks": one COCO RLE per frame}.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal2.data.importers.video_import import SourceVideo
from amodal2.structures.rle import to_rle, validate_rle
from amodal2.utils.errors import AnnotationError
from amodal2.utils.frames import list_images, read_image
from amodal2.utils.json_input import is_id, is_text, read_json

CLASS_AGNOSTIC = "fish"
"""Name of the one category if species are not told apart."""


def read_fishbowl(
    root: str | Path, split: str, base: str | Path, species: bool = True
) -> Iterator[SourceVideo]:
    """Read the videos of one split.

    Args:
        root: folder of the dataset.
        split: "train", "val" or "test".
        base: folder that the frame paths will be relative to.
        species: categories are the ``type_name`` of the fish; else all are "fish".

    Yields:
        SourceVideo: in the order of the video names.

    Raises:
        FileNotFoundError: if the split has no videos.
        AnnotationError: naming the file and object that cannot be read.
    """
    files = sorted(Path(root, split).glob("*/objects.json"))
    if not files:
        raise FileNotFoundError(
            f"read_fishbowl: expected {Path(root, split)}/<video>/objects.json, got none"
        )
    for file in files:
        yield _read_video(Path(root), split, file, Path(base), species)


def _read_video(root: Path, split: str, file: Path, base: Path, species: bool) -> SourceVideo:
    name = file.parent.name
    images = list_images(root / f"{split}_frames" / name)
    height, width = read_image(images[0]).shape[:2]
    video = SourceVideo(
        name, height, width, [Path(os.path.relpath(path, base)).as_posix() for path in images]
    )
    types: dict[Any, str] = {}
    for entry in _read_objects(file, len(images)):
        types[entry["id"]] = entry["type_name"] if species else CLASS_AGNOSTIC
        _add_masks(video, entry, types[entry["id"]], "visible", file)
    found = set()
    for alone in sorted((root / f"{split}_objects").glob(f"{name}_object*/objects.json")):
        for entry in _read_objects(alone, len(images)):
            if entry["id"] not in types:
                raise AnnotationError(
                    f"read_fishbowl: expected one of the ids {sorted(types)} of {file}, got "
                    f"{entry['id']!r}",
                    file=alone,
                    key="id",
                )
            found.add(entry["id"])
            _add_masks(video, entry, types[entry["id"]], "amodal", alone)
    if found != set(types):
        raise AnnotationError(
            "read_fishbowl: expected every fish rendered alone in "
            f"{root / f'{split}_objects' / name}_object*, got none of {sorted(set(types) - found)}",
            file=file,
        )
    return video


def _read_objects(file: Path, length: int) -> list[dict[str, Any]]:
    entries = read_json(file, "read_fishbowl")
    if not isinstance(entries, list):
        raise AnnotationError(
            f"read_fishbowl: expected a list of objects, got {type(entries).__name__}", file=file
        )
    for index, entry in enumerate(entries):
        masks = entry.get("masks") if isinstance(entry, dict) else None
        if not isinstance(masks, list) or not (
            (is_id(entry.get("id")) or is_text(entry.get("id"))) and is_text(entry.get("type_name"))
        ):
            raise AnnotationError(
                "read_fishbowl: expected a list of objects with id, type_name and masks",
                file=file,
                key=f"[{index}]",
            )
        if len(masks) != length:
            raise AnnotationError(
                f"read_fishbowl: expected {length} masks, one per frame, got {len(masks)}",
                file=file,
                key=f"[{index}].masks",
            )
    ids = [entry["id"] for entry in entries]
    if len(set(ids)) != len(ids):
        raise AnnotationError(
            f"read_fishbowl: expected unique ids, got {ids!r:.80}", file=file, key="id"
        )
    return entries


def _add_masks(
    video: SourceVideo, entry: dict[str, Any], category: str, kind: str, file: Path
) -> None:
    size = video.height, video.width
    for frame, mask in enumerate(entry["masks"]):
        try:
            rle = to_rle(mask, *size)
            validate_rle(rle, size)
        except ValueError as error:
            raise AnnotationError(
                f"read_fishbowl: {error}", file=file, key=f"object {entry['id']}, masks[{frame}]"
            ) from error
        setattr(video.masks(entry["id"], category, frame), kind, rle)
