"""Draw the tracks of a frame: visible parts filled, hidden parts hatched, outline and name.

The hidden part is the amodal mask without the visible one. All drawing happens in place and only
inside the boxes of the masks. Letters: H W frame, h w box.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal2.structures.frame_object import FrameObject
from amodal2.structures.rle_crop import Crop, decode_crops
from amodal2.utils.frame_source import Frame
from amodal2.visualization.labels import Box, LabelPlacer
from amodal2.visualization.palette import Color, color_of

Mask = NDArray[np.uint8]  # [h, w], 0 or 255


@dataclass(frozen=True)
class OverlayStyle:
    """How the tracks look. Sizes are for a frame whose shorter side has 480 pixels.

    Attributes:
        fill (float): opacity of visible parts, in [0, 1].
        hatch (float): opacity of the hatching lines on hidden parts.
        hidden_fill (float): opacity between the lines.
        hatch_period_px (float): distance between two lines, along a row.
        hatch_width_px (float): width of a line, along a row.
        outline_px (float): width of the outline of visible parts; hidden parts have half of it.
        font_px (float): size of the letters.
        labels (bool): draw id and class.
        whole (bool): draw amodal masks as visible ones are drawn, for tracks that have no others.
    """

    fill: float = 0.42
    hatch: float = 0.9
    hidden_fill: float = 0.16
    hatch_period_px: float = 9.0
    hatch_width_px: float = 3.0
    outline_px: float = 2.0
    font_px: float = 14.0
    labels: bool = True
    whole: bool = False


DEFAULT_STYLE = OverlayStyle()


def draw_overlay(
    frame: Frame,
    objects: Sequence[FrameObject],
    category_names: Mapping[int, str],
    style: OverlayStyle = DEFAULT_STYLE,
) -> None:
    """Draw objects on a frame, in place.

    Args:
        frame (ndarray[H, W, 3]): RGB uint8, contiguous.
        objects (Sequence[FrameObject]): tracks with a mask in this frame, of the frame's size.
        category_names (Mapping[int, str]): name of each category id; an unknown id is written out.
        style (OverlayStyle): colours and sizes.
    """
    scale = min(frame.shape[:2]) / 480
    if style.whole:
        objects = [replace(item, visible=item.amodal, amodal=None) for item in objects]
    parts = sorted(_parts(objects), key=lambda part: part.item.id)
    for part in parts:
        _tint(frame, part.box, part.visible, color_of(part.item.id), style.fill)
    period = max(4, round(style.hatch_period_px * scale))
    width = max(1, round(style.hatch_width_px * scale))
    for part in parts:
        if part.hidden is not None:
            color, rising = color_of(part.item.id), bool(part.item.id % 2)
            box, hidden = _trim(part.box, part.hidden)
            lines = hidden & _hatching(box, period, width, rising)
            _tint(frame, box, hidden, color, style.hidden_fill)
            _tint(frame, box, lines, color, style.hatch)
    outline = max(1, round(style.outline_px * scale))
    for part in parts:
        _tint(frame, part.box, _outline(part, outline), color_of(part.item.id), 1.0)
    if style.labels:
        placer = LabelPlacer(frame, max(9, round(style.font_px * scale)))
        for part in parts:
            name = category_names.get(part.item.category_id, f"class {part.item.category_id}")
            placer.draw(f"{part.item.id} {name}", color_of(part.item.id), part.anchor)


@dataclass
class _Part:
    """Masks of one object, all in the box of its visible and hidden part together."""

    item: FrameObject
    box: Box
    anchor: Box  # of the visible part where there is one
    visible: Mask
    hidden: Mask | None  # None where it is empty


def _parts(objects: Sequence[FrameObject]) -> Iterator[_Part]:
    """Decode the masks of a frame; objects without any pixel are left out."""
    rles = [rle for item in objects for rle in (item.visible, item.amodal) if rle is not None]
    crops = iter(decode_crops(rles))
    for item in objects:
        visible = None if item.visible is None else next(crops)
        amodal = None if item.amodal is None else next(crops)
        filled = [crop for crop in (visible, amodal) if crop is not None and crop.mask.size]
        if filled:
            boxes = [_box(crop) for crop in filled]
            box = Box(
                min(box.left for box in boxes),
                min(box.top for box in boxes),
                max(box.right for box in boxes),
                max(box.bottom for box in boxes),
            )
            seen = _paste(visible, box)
            hidden = np.asarray(cv2.subtract(_paste(amodal, box), seen), np.uint8)
            yield _Part(item, box, boxes[0], seen, hidden if cv2.countNonZero(hidden) else None)


def _box(crop: Crop) -> Box:
    height, width = crop.mask.shape
    return Box(crop.x, crop.y, crop.x + width, crop.y + height)


def _paste(crop: Crop | None, box: Box) -> Mask:
    """Return a mask in a larger box."""
    mask = np.zeros((box.bottom - box.top, box.right - box.left), np.uint8)
    if crop is not None:
        height, width = crop.mask.shape
        top, left = crop.y - box.top, crop.x - box.left
        mask[top : top + height, left : left + width] = crop.mask
    return np.negative(mask, out=mask)  # 1 becomes 255


def _trim(box: Box, mask: Mask) -> tuple[Box, Mask]:
    """Cut a mask in a box to its set pixels."""
    x, y, width, height = cv2.boundingRect(mask)
    left, top = box.left + x, box.top + y
    return Box(left, top, left + width, top + height), mask[y : y + height, x : x + width]


def _tint(frame: Frame, box: Box, mask: Mask, color: Color, opacity: float) -> None:
    """Mix a colour into the pixels of a mask, in place."""
    region = frame[box.top : box.bottom, box.left : box.right]
    cv2.copyTo(cv2.LUT(region, _mixture(color, opacity)), mask, region)


@lru_cache(maxsize=512)
def _mixture(color: Color, opacity: float) -> NDArray[np.uint8]:
    """Return the table [1, 256, 3] from a channel's value to the value mixed with the colour."""
    values = np.arange(256.0)[:, None]
    mixed = values * (1 - opacity) + np.array(color, float) * opacity
    return mixed.round().astype(np.uint8)[None]


def _hatching(box: Box, period: int, width: int, rising: bool) -> Mask:
    """Return diagonal lines that stand still in the frame, whatever the box."""
    height, length = box.bottom - box.top, box.right - box.left
    side = (max(height, length) + period) // 256 * 256 + 256  # few sizes: they stay cached
    lines = _lines(side, period, width, rising)
    top, left = box.top % period, box.left % period
    return lines[top : top + height, left : left + length]


@lru_cache(maxsize=32)
def _lines(side: int, period: int, width: int, rising: bool) -> Mask:
    x = np.arange(side)
    return np.where((x + x[:, None] if rising else x - x[:, None]) % period < width, 255, 0).astype(
        np.uint8
    )


def _outline(part: _Part, width: int) -> Mask:
    """Return the border of the visible part, and a finer one along the hidden part."""
    outline = _border(part.visible, width)
    if part.hidden is not None:
        whole = _border(part.visible | part.hidden, max(1, width // 2))
        outline |= whole & part.hidden
    return outline


def _border(mask: Mask, width: int) -> Mask:
    """Return the pixels of a mask that lie within ``width`` of its outside."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    inner = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(cv2.subtract(mask, inner), np.uint8)
