"""MOViD-A of C2F-Seg, and the MOVi archives of EoRaS with the same file names.

The expected tree of a split::

    <video>/metadata.json
    <video>/rgba_full_00000.png          frames
    <video>/segmentation_full_00000.png  visible objects: value k + 1 for object k, 0 background
    <video>/segmentation_<k>_00000.png   object k rendered alone: the same value, its amodal mask

Objects have no categories; all are "object".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from amodal2.data.importers.video_import import SourceVideo
from amodal2.structures.rle import encode_mask
from amodal2.utils.errors import AnnotationError

CATEGORY = "object"
_FULL = "segmentation_full_"
_ALONE = re.compile(r"segmentation_(?P<object>\d+)_(?P<frame>\d+)\.png")


def read_movid_a(split: str | Path, base: str | Path) -> Iterator[SourceVideo]:
    """Read the videos of one split.

    Args:
        split: folder of the split.
        base: folder that the frame paths will be relative to.

    Yields:
        SourceVideo: in the order of the video names.

    Raises:
        FileNotFoundError: if there is no video.
        AnnotationError: naming a map that is missing or cannot be read.
    """
    folders = sorted({path.parent for path in Path(split).glob(f"*/{_FULL}*.png")})
    if not folders:
        raise FileNotFoundError(
            f"read_movid_a: expected {split}/<video>/{_FULL}00000.png and so on, got none"
        )
    for folder in folders:
        yield _read_video(folder, Path(base))


def _read_video(folder: Path, base: Path) -> SourceVideo:
    maps = [_read_map(path) for path in sorted(folder.glob(f"{_FULL}*.png"))]
    frames = [folder / f"rgba_full_{index:05d}.png" for index in range(len(maps))]
    names = [Path(os.path.relpath(path, base)).as_posix() for path in frames]
    height, width = maps[0].shape
    video = SourceVideo(folder.name, height, width, names)
    alone = [(_ALONE.fullmatch(path.name), path) for path in sorted(folder.iterdir())]
    for match, path in alone:
        if match is None:
            continue
        number, frame = int(match["object"]), int(match["frame"])
        if frame >= len(maps):
            raise AnnotationError(
                f"read_movid_a: expected a frame below {len(maps)}, got {frame}", file=path
            )
        amodal = _read_map(path)
        if amodal.shape != maps[frame].shape:
            raise AnnotationError(
                f"read_movid_a: expected a map of {maps[frame].shape} (H, W), got {amodal.shape}",
                file=path,
            )
        masks = video.masks(number, CATEGORY, frame)
        masks.visible = encode_mask(maps[frame] == number + 1)
        masks.amodal = encode_mask(amodal == number + 1)
    if not video.tracks:
        raise AnnotationError(
            "read_movid_a: expected segmentation_<object>_<frame>.png (the public MOVi of TFDS has "
            "no such maps), got none",
            file=folder,
        )
    return video


def _read_map(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 2:
        got = "none" if image is None else f"one of shape {image.shape}"
        raise AnnotationError(
            f"read_movid_a: expected an image of ids [H, W], got {got}", file=path
        )
    return np.asarray(image)
