"""FISHBOWL as SaVos released it: selected fish in one pickle per split.

The pickle (``<split>_data.pkl``) maps "<video>_<object>" to frame number -> {"FM": amodal RLE,
"VM": visible RLE, "fish_type", ...}. It lies in ROOT or in ROOT/<split>_data, with the frames in
``<split>_frames/<video>/*.png`` beside it. Only fish and frames that SaVos selected are in it: away
from the border, visible, and cut at the first interruption.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal2.data.importers.fishbowl import CLASS_AGNOSTIC
from amodal2.data.importers.savos_pickles import (
    check_keys,
    load_tracks,
    pickled_dict,
    pickled_frame,
    pickled_mask,
)
from amodal2.data.importers.video_import import SourceVideo
from amodal2.utils.errors import AnnotationError
from amodal2.utils.frames import list_images, read_image

_READER = "read_fishbowl_savos"
_KINDS = {"VM": "visible", "FM": "amodal"}


def find_pickle(root: str | Path, split: str) -> Path | None:
    """Return the pickle of a split, None if there is none.

    Args:
        root: folder of the dataset.
        split: "train", "val" or "test".
    """
    folders = (Path(root), Path(root) / f"{split}_data")
    files = [folder / f"{split}_data.pkl" for folder in folders]
    return next((file for file in files if file.is_file()), None)


def read_fishbowl_savos(
    file: str | Path, split: str, base: str | Path, species: bool = True
) -> Iterator[SourceVideo]:
    """Read the videos of one split.

    Args:
        file: pickle, with the frames beside it.
        split: "train", "val" or "test".
        base: folder that the frame paths will be relative to.
        species: categories are the ``fish_type`` of the fish; else all are "fish".

    Yields:
        SourceVideo: with all frames of the video, in the order of the names.

    Raises:
        FileNotFoundError: if the pickle or the frames of a video do not exist.
        AnnotationError: naming the file and the place in it that cannot be read.
    """
    path = Path(file)
    videos: dict[str, dict[str, Any]] = {}
    data = load_tracks(path, _READER)
    check_keys(data, _READER, path)
    for key, frames in data.items():
        video, separator, number = key.rpartition("_")
        if not separator:
            raise AnnotationError(
                f"{_READER}: expected a key <video>_<object>, got {key!r}", file=path
            )
        videos.setdefault(video, {})[number] = pickled_dict(frames, _READER, path, key)
    for name in sorted(videos):
        yield _read_video(name, videos[name], path, split, Path(base), species)


def _read_video(
    name: str, fish: dict[str, Any], file: Path, split: str, base: Path, species: bool
) -> SourceVideo:
    folder = file.parent / f"{split}_frames" / name
    images = list_images(folder) if folder.is_dir() else []
    if not images:
        raise FileNotFoundError(f"{_READER}: expected the frames of {name} in {folder}, got none")
    height, width = read_image(images[0]).shape[:2]
    paths = [Path(os.path.relpath(path, base)).as_posix() for path in images]
    video = SourceVideo(name, height, width, paths)
    for number, frames in fish.items():
        for frame, found in frames.items():
            place = f"{name}_{number}.{frame}"
            entry = pickled_dict(found, _READER, file, place)
            index = pickled_frame(frame, _READER, file, place)
            if index >= len(images):
                raise AnnotationError(
                    f"{_READER}: expected a frame below {len(images)}, got {frame}",
                    file=file,
                    key=place,
                )
            if species and "fish_type" not in entry:
                raise AnnotationError(
                    f"{_READER}: expected a fish_type, got the keys {sorted(entry)}",
                    file=file,
                    key=place,
                )
            category = str(entry["fish_type"]) if species else CLASS_AGNOSTIC
            masks = video.masks(number, category, index)
            for key, kind in _KINDS.items():
                size = height, width
                mask = pickled_mask(entry.get(key), size, _READER, file, f"{place}.{key}")
                setattr(masks, kind, mask)
    return video
