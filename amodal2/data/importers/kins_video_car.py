"""KINS-Video-Car of SaVos: cars in videos of KITTI, with tracks and visible masks of PointTrack.

The expected tree::

    ROOT/car_data/<split>_data.pkl                video -> track -> frame number -> {"VM": RLE, ...}
    ROOT/Kitti/raw_video/<date>/<video>/<n>.png   date: the first three parts of the video's name

There are no amodal masks of the videos. The ground truth are the objects of KINS in those frames
that are also images of KINS, byte for byte.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from amodal2.data.importers.image_import import SourceImage
from amodal2.data.importers.savos_pickles import (
    check_keys,
    load_tracks,
    pickled_dict,
    pickled_frame,
    pickled_mask,
    pickled_size,
)
from amodal2.data.importers.video_import import SourceVideo, intersect
from amodal2.structures.rle import RLE, rle_area
from amodal2.utils.errors import AnnotationError
from amodal2.utils.frames import list_images

CATEGORY = "car"
SHORTEST = 10
"""Frames of the shortest track of the release."""
MATCH_IOU = 0.5
"""Least IoU of visible masks at which an object of KINS is that of a track."""
_READER = "read_kins_video_car"


def read_kins_video_car(
    root: str | Path, split: str, base: str | Path, report: Counter[str]
) -> Iterator[SourceVideo]:
    """Read the tracks of one split.

    Args:
        root: folder of the dataset.
        split: "train", "val" or "test".
        base: folder that the frame paths will be relative to.
        report: receives the number of tracks that are shorter than the release says or have gaps.

    Yields:
        SourceVideo: with visible masks only, from the first to the last frame with a track, in the
            order of the names.

    Raises:
        FileNotFoundError: if the pickle or the frames of a video do not exist.
        AnnotationError: naming the file and the place in it that cannot be read.
    """
    file = Path(root) / "car_data" / f"{split}_data.pkl"
    data = load_tracks(file, _READER)
    check_keys(data, _READER, file)
    for name in sorted(data):
        tracks = pickled_dict(data[name], _READER, file, name)
        yield _read_video(name, tracks, file, Path(root), Path(base), report)


def _read_video(
    name: str,
    tracks: dict[Any, Any],
    file: Path,
    root: Path,
    base: Path,
    report: Counter[str],
) -> SourceVideo:
    frames = {
        key: pickled_dict(found, _READER, file, f"{name}.{key}") for key, found in tracks.items()
    }
    numbers = sorted(
        {
            pickled_frame(number, _READER, file, f"{name}.{key}")
            for key, found in frames.items()
            for number in found
        }
    )
    if not numbers:
        raise AnnotationError(
            f"{_READER}: expected frames with masks, got none", file=file, key=name
        )
    paths = _frame_paths(root, name)
    span = range(numbers[0], numbers[-1] + 1)
    missing = list(islice((number for number in span if number not in paths), 5))
    if missing:
        raise AnnotationError(
            f"{_READER}: expected the frames {span.start} to {span.stop - 1} in "
            f"{_folder(root, name)}, got none of {missing}",
            file=file,
            key=name,
        )
    place = f"{name}.{next(key for key in frames if frames[key])}"
    size = pickled_size(_visible(next(filter(None, frames.values()))), _READER, file, place)
    names = [Path(os.path.relpath(paths[number], base)).as_posix() for number in span]
    video = SourceVideo(name, *size, names)
    for key, found in frames.items():
        steps = sorted(int(number) for number in found)
        report[f"tracks of less than {SHORTEST} frames"] += len(steps) < SHORTEST
        report["tracks with gaps in time"] += bool(steps) and steps[-1] - steps[0] >= len(steps)
        for number, entry in found.items():
            where = f"{name}.{key}.{number}"
            entry = pickled_dict(entry, _READER, file, where)
            mask = pickled_mask(entry.get("VM"), size, _READER, file, f"{where}.VM")
            video.masks(key, CATEGORY, int(number) - span.start).visible = mask
    return video


def _visible(found: dict[Any, Any]) -> Any:
    """Return the first visible mask of a track as it is."""
    entry = next(iter(found.values()))
    return entry.get("VM") if isinstance(entry, dict) else entry


def _folder(root: Path, name: str) -> Path:
    return root / "Kitti" / "raw_video" / "_".join(name.split("_")[:3]) / name


def _frame_paths(root: Path, name: str) -> dict[int, Path]:
    """Return frame number -> image file of a video."""
    folder = _folder(root, name)
    if not folder.is_dir():
        raise FileNotFoundError(f"{_READER}: expected the frames of {name} in {folder}, got none")
    return {int(path.stem): path for path in list_images(folder) if path.stem.isdecimal()}


def match_images(frames: Iterable[Path], images: Iterable[Path]) -> dict[str, Path]:
    """Find which frames of videos are images of another folder, by MD5 of the files.

    Args:
        frames: image files of videos.
        images: image files of the other dataset.

    Returns:
        dict: file name of an image -> the first frame with the same content.
    """
    by_size: dict[int, list[Path]] = {}
    for path in images:
        by_size.setdefault(path.stat().st_size, []).append(path)
    digests: dict[int, dict[str, str]] = {}
    found: dict[str, Path] = {}
    for frame in frames:
        size = frame.stat().st_size
        if size not in by_size:
            continue
        if size not in digests:
            digests[size] = {_md5(path): path.name for path in by_size[size]}
        name = digests[size].get(_md5(frame))
        if name is not None:
            found.setdefault(name, frame)
    return found


def attach_tracks(
    images: Iterable[SourceImage],
    videos: Sequence[SourceVideo],
    matches: dict[str, str],
    report: Counter[str],
) -> Iterator[SourceImage]:
    """Keep the images that are frames of videos, and say which track each object is.

    An object gets "video", "frame", "track" and "track_iou" in its ``source`` if a track's visible
    mask has an IoU of at least 0.5 with its own; several objects may get the same track.

    Args:
        images: of KINS.
        videos: as :func:`read_kins_video_car` made them.
        matches: file name of an image -> path of the frame in the videos.
        report: receives the number of images left out and of objects with and without a track.

    Yields:
        SourceImage: with the path of the frame.
    """
    places = {
        path: (video, frame) for video in videos for frame, path in enumerate(video.file_names)
    }
    for image in images:
        path = matches.get(Path(image.file_name).name)
        if path not in places:
            report["images of KINS left out, in no video"] += 1
            continue
        video, frame = places[path]
        image.file_name = path
        for found in image.objects:
            ious = {
                key: _iou(found.visible, frames[frame].visible)
                for key, (_, frames) in video.tracks.items()
                if frame in frames
            }
            best = max(ious, key=ious.__getitem__, default=None)
            if best is None or ious[best] < MATCH_IOU:
                report["objects without a track"] += 1
                continue
            report["objects with a track"] += 1
            track = int(str(best)) if str(best).isdecimal() else str(best)
            found.source |= {"video": video.name, "frame": frame, "track": track}
            found.source["track_iou"] = ious[best]
        yield image


def _iou(one: RLE | None, other: RLE | None) -> float:
    if one is None or other is None or one["size"] != other["size"]:
        return 0.0
    common = rle_area(intersect(one, other))
    union = rle_area(one) + rle_area(other) - common
    return common / union if union else 0.0


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
