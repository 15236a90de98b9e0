"""Visible masks that somebody else made, as tracks: JSON, folders of images, maps of ids.

- A JSON file in the YTVIS layout, our ``tracks.json`` among them (amodal masks in it are left out),
  or in the COCO layout with one image per frame, whose annotations name their object by
  ``track_id``, ``instance_id`` or ``object_id``.
- A folder with one folder of black and white images per object. Folders may lie deeper, as in
  ``id_001/visible/``; folders called ``amodal`` are left out.
- A folder of maps of ids, one image per frame (grey or with a palette, as DAVIS has them): every
  value but 0 is an object.

Images belong to the frame whose image has the same name, else to the frame with their number,
counted from 0. Dimensions: T frames, H W image.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amodal2.structures.mask_checks import VISIBLE_KEY, normalise_masks, size_problem
from amodal2.structures.rle import encode_mask
from amodal2.structures.track import MaskTube, Track
from amodal2.utils.errors import AnnotationError
from amodal2.utils.frames import IMAGE_SUFFIXES, list_images, natural_key
from amodal2.utils.json_input import read_json

_OBJECT_KEYS = ("track_id", "instance_id", "object_id")
_LEFT_OUT = "amodal"
_FUNCTION = "read_masks"


@dataclass
class MaskInput:
    """Visible masks of one video.

    Attributes:
        tracks (list[Track]): one per object, each with T masks.
        category_names (dict[int, str]): name of each category id.
        object_names (dict[int, str]): what the input calls each track.
    """

    tracks: list[Track]
    category_names: dict[int, str]
    object_names: dict[int, str]


def read_masks(
    path: str | Path,
    length: int,
    frame_names: Sequence[str] = (),
    *,
    video: str | int | None = None,
) -> MaskInput:
    """Read the visible masks of one video.

    Args:
        path: JSON file or folder, see the module's docstring.
        length: T, frames of the video.
        frame_names: file names of the frames without suffixes, if they are images.
        video: id or file name of the entry that is meant in a JSON file of several videos.

    Returns:
        MaskInput: frames without a mask have None; nothing is checked against the frames' size.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        AnnotationError: if a file is invalid or has another number of frames, or it is not clear
            which video or frame is meant.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"{_FUNCTION}: expected masks, got {file}, which does not exist")
    if file.is_dir():
        return _read_folder(file, length, frame_names)
    data = read_json(file, _FUNCTION)
    if not isinstance(data, dict) or not isinstance(data.get("annotations"), list):
        raise AnnotationError(
            f"{_FUNCTION}: expected a JSON object with a list of annotations, got {data!r:.60}",
            file=file,
        )
    if isinstance(data.get("videos"), list):
        entry, records = _video_records(data, video, file)
    elif isinstance(data.get("images"), list):
        entry, records = _image_records(data, file)
    else:
        raise AnnotationError(f"{_FUNCTION}: expected 'videos' or 'images', got neither", file=file)
    return _from_records(data, entry, records, length, file)


Entry = dict[str, Any]


def _video_records(data: Entry, video: str | int | None, file: Path) -> tuple[Entry, list[Entry]]:
    """Choose a video of a file in the YTVIS layout."""
    videos = [entry for entry in data["videos"] if isinstance(entry, dict)]
    if video is not None:
        videos = [
            entry
            for entry in videos
            if str(video) == str(entry.get("id")) or video == entry.get("file_name")
        ]
    if len(videos) != 1:
        wanted = "one video" if video is None else f"the video {video!r}"
        raise AnnotationError(
            f"{_FUNCTION}: expected {wanted}, got {len(videos)} such entries; name an id", file=file
        )
    number = videos[0].get("id")
    records = [
        {**record, "name": str(record.get("id", position))}
        for position, record in enumerate(data["annotations"], start=1)
        if isinstance(record, dict) and record.get("video_id") == number
    ]
    return videos[0], records


def _image_records(data: Entry, file: Path) -> tuple[Entry, list[Entry]]:
    """Join the annotations of images, the frames of one video, to tracks."""
    images = sorted(
        (image for image in data["images"] if isinstance(image, dict)),
        key=lambda image: natural_key(str(image.get("file_name", image.get("id")))),
    )
    if not images:
        raise AnnotationError(f"{_FUNCTION}: expected images, got none", file=file)
    frame_of = {image.get("id"): t for t, image in enumerate(images)}
    tracks: dict[str, Entry] = {}
    for record in data["annotations"]:
        key = next((key for key in _OBJECT_KEYS if key in record), None)
        if key is None or record.get("image_id") not in frame_of:
            raise AnnotationError(
                f"{_FUNCTION}: expected the image_id of an image and one of {_OBJECT_KEYS}, got "
                f"{record!r:.80}",
                file=file,
                annotation_id=record.get("id"),
            )
        name = str(record[key])
        track = tracks.setdefault(
            name,
            {
                "name": name,
                "category_id": record.get("category_id", 1),
                VISIBLE_KEY: [None] * len(images),
            },
        )
        track[VISIBLE_KEY][frame_of[record["image_id"]]] = record.get("segmentation")
    size = {key: images[0].get(key) for key in ("height", "width")}
    return {**size, "length": len(images)}, list(tracks.values())


def _from_records(
    data: Entry, entry: Entry, records: list[Entry], length: int, file: Path
) -> MaskInput:
    """Check the records of one video and turn them into tracks."""
    problem = size_problem(entry)
    if problem is not None:
        raise AnnotationError(f"{_FUNCTION}: {problem[1]}", file=file, key=problem[0])
    for record in records:
        masks = record.get(VISIBLE_KEY)
        if not isinstance(masks, list) or len(masks) != length:
            got = len(masks) if isinstance(masks, list) else repr(masks)[:60]
            raise AnnotationError(
                f"{_FUNCTION}: expected {length} masks per object as there are frames, got {got}",
                file=file,
                annotation_id=record.get("id"),
                key=VISIBLE_KEY,
            )
    kept = [{"video_id": 0, VISIBLE_KEY: list(record[VISIBLE_KEY])} for record in records]
    for position, (key, text) in normalise_masks(kept, {0: entry}).items():
        raise AnnotationError(
            f"{_FUNCTION}: {text}", file=file, annotation_id=records[position].get("id"), key=key
        )
    tracks = [
        Track(
            _track_id(record, position),
            int(record.get("category_id", 1)),
            float(record.get("score", 1.0)),
            one[VISIBLE_KEY],
        )
        for position, (record, one) in enumerate(zip(records, kept, strict=True), start=1)
    ]
    categories = data.get("categories") or []
    names = {entry["id"]: str(entry["name"]) for entry in categories if "name" in entry}
    names |= {track.category_id: "object" for track in tracks if track.category_id not in names}
    shown = {track.id: record["name"] for track, record in zip(tracks, records, strict=True)}
    return MaskInput(tracks, names, shown)


def _track_id(record: Entry, position: int) -> int:
    number = record.get("id")
    return number if type(number) is int and number > 0 else position


def _read_folder(folder: Path, length: int, frame_names: Sequence[str]) -> MaskInput:
    """Read images below a folder: maps of ids directly in it, or one folder per object."""
    maps = list_images(folder)
    if maps:
        tubes = _read_maps(maps, length, frame_names)
    else:
        tubes = _read_object_folders(folder, length, frame_names)
    if not tubes:
        raise AnnotationError(f"{_FUNCTION}: expected images of masks, got none", file=folder)
    names = sorted(tubes, key=natural_key)
    tracks = [Track(number, 1, 1.0, tubes[name]) for number, name in enumerate(names, start=1)]
    return MaskInput(tracks, {1: "object"}, dict(enumerate(names, start=1)))


def _read_maps(maps: list[Path], length: int, frame_names: Sequence[str]) -> dict[str, MaskTube]:
    tubes: dict[str, MaskTube] = {}
    for file, frame in _frames_of(maps, length, frame_names).items():
        ids = _read_grey(file)
        for value in np.unique(ids[ids > 0]).tolist():
            tube = tubes.setdefault(str(value), [None] * length)
            tube[frame] = encode_mask(ids == value)
    return tubes


def _read_object_folders(
    folder: Path, length: int, frame_names: Sequence[str]
) -> dict[str, MaskTube]:
    by_object: defaultdict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.rglob("*"), key=lambda path: natural_key(str(path))):
        inner = file.relative_to(folder).parts
        if file.suffix.lower() in IMAGE_SUFFIXES and _LEFT_OUT not in inner[:-1]:
            by_object[inner[0]].append(file)
    tubes: dict[str, MaskTube] = {}
    for name, files in by_object.items():
        tube: MaskTube = [None] * length
        for file, frame in _frames_of(files, length, frame_names).items():
            mask = _read_grey(file) > 0
            tube[frame] = encode_mask(mask) if mask.any() else None
        tubes[name] = tube
    return tubes


def _frames_of(files: Sequence[Path], length: int, frame_names: Sequence[str]) -> dict[Path, int]:
    """Return the frame of each image."""
    places = {name: t for t, name in enumerate(frame_names)}
    if not all(file.stem in places for file in files):
        places = {}
    frames: dict[Path, int] = {}
    for file in files:
        digits = re.search(r"(\d+)\D*$", file.stem)
        frame = places.get(file.stem, int(digits[1]) if digits else -1)
        if not 0 <= frame < length:
            raise AnnotationError(
                f"{_FUNCTION}: expected images named like the frames or numbered 0 to "
                f"{length - 1}, got {file.name}",
                file=file,
            )
        if frame in frames.values():
            raise AnnotationError(
                f"{_FUNCTION}: expected one image per frame, got two for frame {frame}", file=file
            )
        frames[file] = frame
    return frames


def _read_grey(file: Path) -> np.ndarray:
    """Read an image of numbers: indices of a palette, or grey values."""
    try:
        with Image.open(file) as image:
            values = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as e:
        raise AnnotationError(f"{_FUNCTION}: expected an image, got {e}", file=file) from e
    if values.ndim != 2:
        raise AnnotationError(
            f"{_FUNCTION}: expected a grey image or one with a palette, got {values.shape[2]} "
            "channels",
            file=file,
        )
    return values
