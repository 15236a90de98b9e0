"""Pictures beside each other, each with its title."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amodal2.utils.frame_source import Frame
from amodal2.visualization.labels import Box, LabelPlacer

_GAP_PX = 4
_GAP_COLOR = 24  # dark grey
_TITLE_COLOR = (32, 32, 32)


def side_by_side(frames: Sequence[Frame], titles: Sequence[str]) -> Frame:
    """Put frames of one size in a row with their titles in the lower left corners.

    Args:
        frames (Sequence[ndarray[H, W, 3]]): RGB uint8; they are not changed.
        titles (Sequence[str]): one per frame, "" for none.

    Returns:
        ndarray[H, W', 3]: RGB uint8, as wide as :func:`panel_width` says.

    Raises:
        ValueError: if the sizes differ or titles are missing.
    """
    if len({frame.shape for frame in frames}) != 1 or len(titles) != len(frames):
        raise ValueError(
            "side_by_side: expected frames of one size and a title each, got "
            f"{[frame.shape for frame in frames]} and {len(titles)} titles"
        )
    height, width = frames[0].shape[:2]
    panel = np.full((height, panel_width(width, len(frames)), 3), _GAP_COLOR, np.uint8)
    font_px = max(9, round(min(height, width) / 480 * 15))
    for index, (frame, title) in enumerate(zip(frames, titles, strict=True)):
        left = index * (width + _GAP_PX)
        part = panel[:, left : left + width]
        part[:] = frame
        if title:
            corner = Box(_GAP_PX, height - 2 * font_px, width, height)
            LabelPlacer(part, font_px).draw(title, _TITLE_COLOR, corner)
    return panel


def panel_width(width: int, count: int) -> int:
    """Return the width in pixels of ``count`` frames of ``width`` pixels in a row.

    Args:
        width (int): width of one frame in pixels.
        count (int): number of frames.
    """
    return count * width + (count - 1) * _GAP_PX
