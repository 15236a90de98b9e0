"""SAIL-VOS as Diffusion-VAS curated it: sequences of 25 frames, one object each.

The file (``diffusion_vas_sailvos_{train,val}.json``) is a list of records: ``segmentation`` (amodal
RLEs), ``visible_mask`` (visible RLEs), ``image_ids`` and ``image_file_names``, one entry per frame,
``obj_id`` and ``category_id``. Records of the same frames become one video. The raw SAIL-VOS
is read by ``sailvos_raw``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal2.data.importers.video_import import SourceVideo
from amodal2.structures.mask_checks import size_problem
from amodal2.structures.rle import find_invalid_rles, to_rle
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import is_id, is_text, read_json

CLASS_AGNOSTIC = "object"
"""Name of the one category if classes are not told apart; the file has ids without names."""

LENGTH = 25
"""Frames per sequence."""
_LISTS = ("segmentation", "visible_mask", "image_ids", "image_file_names")
_KINDS = {"segmentation": "amodal", "visible_mask": "visible"}

Frames = tuple[int, ...]


def read_sailvos(
    path: str | Path,
    frames: str,
    report: Counter[str],
    names: dict[int, str] | None = None,
    *,
    skip_unnamed: bool = False,
) -> Iterator[SourceVideo]:
    """Read a curated file.

    Args:
        path: JSON file.
        frames: folder that ``image_file_names`` are relative to, itself relative to the folder of
            the JSON that will be written.
        report: receives the number of sequences and of those that contradict the published form.
        names: category id -> name; None makes every object an "object".
        skip_unnamed: leave out objects of other categories than those; else they are an error.

    Yields:
        SourceVideo: in the order of their first records, named by first image and first record.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: naming file, record and key of what cannot be read.
    """
    groups: dict[Frames, list[int]] = {}
    records = _load(Path(path))
    for index, record in enumerate(records):
        _check(record, index, Path(path))
        if skip_unnamed and names is not None and record["category_id"] not in names:
            report["sequences of categories without a name, left out"] += 1
            continue
        groups.setdefault(tuple(record["image_ids"]), []).append(index)
    report["sequences (one object in one video)"] += len(records)
    report["categories of the source"] = len({record["category_id"] for record in records})
    for indices in groups.values():
        yield _read_video(records, indices, Path(path), frames, names)


def _load(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"read_sailvos: expected a JSON file, got no such file {path}")
    data = read_json(path, "read_sailvos")
    if not isinstance(data, list) or not data:
        got = "an empty list" if isinstance(data, list) else type(data).__name__
        raise AnnotationError(
            "read_sailvos: expected the list of sequences of Diffusion-VAS "
            f"(diffusion_vas_sailvos_*.json), got {got}; the raw SAIL-VOS needs --raw",
            file=path,
        )
    return data


def _check(record: Any, index: int, path: Path) -> None:
    """Stop at a record without the keys, or with lists of other lengths."""
    for key in (*_LISTS, "obj_id", "category_id"):
        if not isinstance(record, dict) or key not in record:
            raise AnnotationError(
                f"read_sailvos: expected a record with {key}, got none",
                file=path,
                key=f"[{index}].{key}",
            )
    for key in _LISTS:
        if not isinstance(record[key], list) or len(record[key]) != LENGTH:
            got = len(record[key]) if isinstance(record[key], list) else record[key]
            raise AnnotationError(
                f"read_sailvos: expected a list of {LENGTH} entries, got {got!r:.80}",
                file=path,
                key=f"[{index}].{key}",
            )
    for key in ("image_ids", "image_file_names", "obj_id", "category_id"):
        values = record[key] if key in _LISTS else [record[key]]
        if not all(is_id(value) or is_text(value) for value in values):
            raise AnnotationError(
                f"read_sailvos: expected ids or names, got {record[key]!r:.80}",
                file=path,
                key=f"[{index}].{key}",
            )


def _read_video(
    records: list[dict[str, Any]],
    indices: list[int],
    path: Path,
    frames: str,
    names: dict[int, str] | None,
) -> SourceVideo:
    first = records[indices[0]]
    size = _size(first, indices[0], path)
    files = [
        (Path(frames) / str(name).lstrip("/")).as_posix() for name in first["image_file_names"]
    ]
    name = f"{first['image_file_names'][0]} (record {indices[0]})"
    video = SourceVideo(name, *size, files)
    for index in indices:
        record = records[index]
        category = CLASS_AGNOSTIC
        if names is not None:
            if record["category_id"] not in names:
                raise AnnotationError(
                    f"read_sailvos: expected one of the {len(names)} named category ids, got "
                    f"{record['category_id']!r}",
                    file=path,
                    key=f"[{index}].category_id",
                )
            category = names[record["category_id"]]
        if record["obj_id"] in video.tracks:
            raise AnnotationError(
                f"read_sailvos: expected object {record['obj_id']!r} once in the frames from "
                f"{name}, got it twice",
                file=path,
                key=f"[{index}].obj_id",
            )
        _add_masks(video, record, category, f"[{index}]", path)
    return video


def _size(record: dict[str, Any], index: int, path: Path) -> tuple[int, int]:
    mask = record["segmentation"][0]
    size = mask.get("size") if isinstance(mask, dict) else None
    if not isinstance(size, list) or [type(side) for side in size] != [int, int]:
        raise AnnotationError(
            f"read_sailvos: expected an RLE with its size, got {mask!r:.80}",
            file=path,
            key=f"[{index}].segmentation[0]",
        )
    problem = size_problem({"height": size[0], "width": size[1]})
    if problem is not None:
        raise AnnotationError(
            f"read_sailvos: {problem[1]}", file=path, key=f"[{index}].segmentation[0]"
        )
    return size[0], size[1]


def _add_masks(
    video: SourceVideo, record: dict[str, Any], category: str, place: str, path: Path
) -> None:
    size = video.height, video.width
    for key, kind in _KINDS.items():
        rles = []
        for frame, mask in enumerate(record[key]):
            try:
                rles.append(to_rle(mask, *size))
            except ValueError as error:
                raise AnnotationError(
                    f"read_sailvos: {error}", file=path, key=f"{place}.{key}[{frame}]"
                ) from error
        for frame, problem in find_invalid_rles(rles, [size] * LENGTH).items():
            raise AnnotationError(
                f"read_sailvos: {problem}", file=path, key=f"{place}.{key}[{frame}]"
            )
        for frame, rle in enumerate(rles):
            setattr(video.masks(record["obj_id"], category, frame), kind, rle)
