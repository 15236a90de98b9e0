"""Small name plates: rendered once, then copied into the frames."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amodal2.utils.frame_source import Frame
from amodal2.visualization.palette import Color, text_color

_OVERSAMPLING = 4  # of the rounded corners


class Box(NamedTuple):
    """A rectangle in pixels: left, top, right and bottom edge, the last two outside."""

    left: int
    top: int
    right: int
    bottom: int


class LabelPlacer:
    """Draws the labels of one frame so that they do not cover each other where there is room."""

    def __init__(self, frame: Frame, font_px: int) -> None:
        """Begin a frame.

        Args:
            frame (ndarray[H, W, 3]): RGB uint8, drawn on in place.
            font_px (int): letter size in pixels.
        """
        self._frame = frame
        self._font_px = font_px
        self._taken: list[Box] = []

    def draw(self, text: str, color: Color, anchor: Box) -> None:
        """Draw a label at an object: above it, else inside, below or at its right end.

        Args:
            text (str): what it says.
            color (Color): background, RGB.
            anchor (Box): box of the object.
        """
        paint, keep = _plate(text, color, self._font_px)
        height, width = paint.shape[:2]
        frame_height, frame_width = self._frame.shape[:2]
        if height > frame_height or width > frame_width:
            return
        spots = []
        for left, top in _candidates(anchor, height, width):
            left = min(max(left, 0), frame_width - width)
            top = min(max(top, 0), frame_height - height)
            spot = Box(left, top, left + width, top + height)
            covered = sum(_overlap(spot, other) for other in self._taken)
            spots.append((covered, spot))
            if covered == 0:
                break
        spot = min(spots, key=lambda pair: pair[0])[1]
        self._taken.append(spot)
        region = self._frame[spot.top : spot.bottom, spot.left : spot.right]
        cv2.add(cv2.multiply(region, keep, scale=1 / 255), paint, dst=region)


def _candidates(anchor: Box, height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield (left, top) of a plate, the best first."""
    for left in (anchor.left, anchor.right - width):
        yield left, anchor.top - height - 1
        yield left, anchor.top + 2
        yield left, anchor.bottom + 1


def _overlap(a: Box, b: Box) -> int:
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(0, width) * max(0, height)


@lru_cache(maxsize=512)
def _plate(text: str, color: Color, font_px: int) -> tuple[Frame, Frame]:
    """Render a plate [h, w, 3]: colours times opacity, and what it lets through, 0 to 255."""
    font = ImageFont.load_default(font_px)
    left, _, right, _ = font.getbbox(text)
    pad = max(2, font_px // 3)
    width, height = int(right - left) + 2 * pad, round(font_px * 1.35)
    scale = _OVERSAMPLING
    shape = Image.new("L", (width * scale, height * scale))
    box = (0, 0, width * scale - 1, height * scale - 1)
    ImageDraw.Draw(shape).rounded_rectangle(box, radius=pad * scale, fill=235)
    opacity = np.asarray(shape.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    picture = Image.new("RGB", (width, height), color)
    ImageDraw.Draw(picture).text(
        (pad - left, height / 2), text, fill=text_color(color), font=font, anchor="lm"
    )
    paint = np.asarray(picture, np.float32) * opacity[..., None]
    keep = np.repeat(255 * (1 - opacity[..., None]), 3, axis=2)
    return paint.round().astype(np.uint8), keep.round().astype(np.uint8)
