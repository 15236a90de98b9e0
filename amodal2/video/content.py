"""Completed objects as RGBA clips: one folder per object, one PNG file per frame.

Shapes: T frames, H W frame.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal2.utils.errors import VideoError
from amodal2.utils.files import atomic_write

RGBA = NDArray[np.uint8]  # [H, W, 4]


def clip_folder(folder: str | Path, track_id: int) -> Path:
    """Return where the clip of an object lies.

    Args:
        folder: of all clips.
        track_id: of the object.
    """
    return Path(folder) / f"id_{track_id:03d}"


class ContentWriter:
    """Writes ``FOLDER/id_NNN/FFFFFF.png``: colour and, as alpha, the amodal mask.

    Attributes:
        written (int): files so far.
    """

    def __init__(self, folder: str | Path) -> None:
        """Store where to write.

        Args:
            folder: of all clips.
        """
        self._folder = Path(folder)
        self.written = 0

    def __call__(self, track_id: int, frame: int, image: RGBA) -> None:
        """Write one frame of one object.

        Args:
            track_id: of the object.
            frame: its number, from 0.
            image (ndarray[H, W, 4]): uint8 RGBA.

        Raises:
            VideoError: if it cannot be encoded.
        """
        path = clip_folder(self._folder, track_id) / f"{frame:06d}.png"
        done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA))
        if not done:
            raise VideoError(f"ContentWriter: expected to encode {path}, got a failure")
        with atomic_write(path) as temporary:
            temporary.write_bytes(data.tobytes())
        self.written += 1


def read_content(
    folder: str | Path, track_id: int, frame: int, size: tuple[int, int]
) -> RGBA | None:
    """Read a frame of a clip.

    Args:
        folder: of all clips.
        track_id: of the object.
        frame: its number, from 0.
        size: H and W of the video.

    Returns:
        ndarray[H, W, 4] | None: uint8 RGBA; None if the object has no mask there.

    Raises:
        VideoError: if the file is no RGBA image of this size.
    """
    path = clip_folder(folder, track_id) / f"{frame:06d}.png"
    if not path.is_file():
        return None
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8 or image.shape != (*size, 4):
        found = "no image" if image is None else f"{image.dtype} {image.shape}"
        raise VideoError(
            f"read_content: expected a uint8 RGBA image of {size[1]}x{size[0]} in {path}, got "
            f"{found}; write the clips again with tools/complete_masks.py --content"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
