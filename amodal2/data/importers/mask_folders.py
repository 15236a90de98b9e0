"""Folders of masks: one image per object, kind of mask and frame.

The expected tree::

    ROOT/<video>/frames/<frame>.jpg
    ROOT/<video>/masks/<category>_<number>/visible/<frame>.png
    ROOT/<video>/masks/<category>_<number>/amodal/<frame>.png

Names of frames are the same in the three places, apart from the suffix. A mask image is
foreground where it is not zero; a missing one is an empty mask.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2

from amodal2.data.importers.labels import KINDS
from amodal2.data.importers.video_import import SourceVideo
from amodal2.structures.rle import RLE, encode_mask
from amodal2.utils.errors import AnnotationError
from amodal2.utils.frames import list_images, read_image


def read_mask_folders(root: str | Path, base: str | Path) -> Iterator[SourceVideo]:
    """Read videos with masks in folders.

    Args:
        root: folder with one folder per video.
        base: folder that the frame paths will be relative to.

    Yields:
        SourceVideo: one per folder that holds ``frames`` and ``masks``.

    Raises:
        FileNotFoundError: if there is no such folder.
        AnnotationError: if an object's folder has a name of another form, or a mask has no frame or
            another size than the frames.
    """
    videos = sorted(path.parent for path in Path(root).glob("*/masks") if path.is_dir())
    if not videos:
        raise FileNotFoundError(f"read_mask_folders: expected {root}/<video>/masks, got none")
    for path in videos:
        yield _read_video(path, Path(base))


def _read_video(folder: Path, base: Path) -> SourceVideo:
    images = list_images(folder / "frames")
    height, width = read_image(images[0]).shape[:2]
    names = [Path(os.path.relpath(path, base)).as_posix() for path in images]
    video = SourceVideo(folder.name, height, width, names)
    frames = {path.stem: index for index, path in enumerate(images)}
    for path in sorted((folder / "masks").glob("*/")):
        match = re.fullmatch(r"(?P<category>.+)_(?P<number>\d+)", path.name)
        if match is None:
            raise AnnotationError(
                f"read_mask_folders: expected folders named <category>_<number>, got {path.name!r}",
                file=path,
            )
        for kind in KINDS:
            for file in sorted((path / kind).glob("*.png")):
                if file.stem not in frames:
                    raise AnnotationError(
                        f"read_mask_folders: expected a frame named {file.stem}, got none",
                        file=file,
                    )
                masks = video.masks(path.name, match["category"], frames[file.stem])
                setattr(masks, kind, _read_mask(file, height, width))
    return video


def _read_mask(file: Path, height: int, width: int) -> RLE:
    mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise AnnotationError("read_mask_folders: expected an image, got none", file=file)
    if mask.shape[:2] != (height, width):
        raise AnnotationError(
            f"read_mask_folders: expected a mask of {height}x{width} (H x W) like the frames, got "
            f"{mask.shape[0]}x{mask.shape[1]}",
            file=file,
        )
    return encode_mask(mask.reshape(height, width, -1).any(axis=2))
