"""Small name plates: rendered once, then copied into the frames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amodal2.utils.frame_source import Frame
from amodal2.visualization.palette import Color, text_color

_OVERSAMPLING = 4
_OPACITY = 235  # of 255


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
    """Render a plate [h, w, 3]: colours times opacity, and what it lets through, 0 to 255.

    It is drawn larger and reduced, which gives smooth edges and even spaces at small sizes.
    """
    scale = _OVERSAMPLING
    font = ImageFont.load_default(font_px * scale)
    left, _, right, _ = font.getbbox(text)
    pad = max(2, font_px // 3)
    size = (math.ceil((right - left) / scale) + 2 * pad, round(font_px * 1.35))
    large = (size[0] * scale, size[1] * scale)
    shape = Image.new("L", large)
    ImageDraw.Draw(shape).rounded_rectangle(
        (0, 0, large[0] - 1, large[1] - 1), radius=pad * scale, fill=_OPACITY
    )
    picture = Image.new("RGB", large, color)
    ImageDraw.Draw(picture).text(
        (pad * scale - left, large[1] / 2), text, fill=text_color(color), font=font, anchor="lm"
    )
    reduced = (image.resize(size, Image.Resampling.BOX) for image in (shape, picture))
    opacity, paint = (np.asarray(image, np.float32) for image in reduced)
    opacity = np.repeat(opacity[..., None] / 255, 3, axis=2)
    keep = 255 * (1 - opacity)
    return (paint * opacity).round().astype(np.uint8), keep.round().astype(np.uint8)
