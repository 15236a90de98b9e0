"""Size and resampling of network inputs, the same in evaluation and in the video demo."""

from __future__ import annotations

import numpy as np
from PIL import Image

from amodal2.utils.frame_source import Frame


def shortest_edge_size(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """Return the size with the shorter edge scaled to ``short`` pixels, the aspect ratio kept.

    Args:
        height: source height in pixels.
        width: source width in pixels.
        short: wanted shorter edge in pixels; 0 keeps the source size.
        longest: upper limit of the longer edge in pixels, which then decides the scale; 0 is none.

    Returns:
        tuple[int, int]: height and width in pixels, rounded, at least 1.
    """
    if short <= 0:
        return height, width
    scale = short / min(height, width)
    if longest > 0 and scale * max(height, width) > longest:
        scale = longest / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_frame(frame: Frame, size: tuple[int, int]) -> Frame:
    """Resample a frame bilinearly with antialiasing (Pillow, as Detectron2 does).

    Args:
        frame (ndarray[H, W, 3]): uint8.
        size (tuple[int, int]): wanted height and width in pixels.

    Returns:
        ndarray[H', W', 3]: uint8; the frame itself if it has that size.
    """
    if frame.shape[:2] == size:
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
