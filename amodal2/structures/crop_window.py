"""Which part of the frames a system looks at that works on one object at a time.

Dimensions: T frames, H W frame. Windows are (top, left, bottom, right) in pixels from the frame's
top left corner, so that pixel (r, c) covers [r, r + 1) x [c, c + 1).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Windows = npt.NDArray[np.float64]  # [T, 4]


def visible_windows(visible: npt.NDArray[np.bool_]) -> Windows:
    """Return the tight boxes of an object's visible masks.

    Args:
        visible (ndarray[T, H, W]): bool.

    Returns:
        ndarray[T, 4]: windows; NaN where nothing is visible.
    """
    boxes = np.full((len(visible), 4), np.nan)
    for t, mask in enumerate(visible):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            boxes[t] = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    return boxes


def clip_window(
    boxes: Windows, enlarge: float, margin: int, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return one window around an object in all frames of a clip.

    Args:
        boxes (ndarray[T, 4]): of its visible masks; NaN where nothing is visible.
        enlarge: factor on the larger sides of the boxes, at least 1; what they gain is added on
            each side of the union of the boxes by half.
        margin: further pixels on each side.
        size: height and width of the frames.

    Returns:
        tuple: top, left, bottom, right in whole pixels, inside the frame.

    Raises:
        ValueError: if nothing is visible in any frame.
    """
    seen = boxes[~np.isnan(boxes[:, 0])]
    if not len(seen):
        raise ValueError("clip_window: expected an object with visible pixels, got none")
    low, high = seen[:, :2].min(0), seen[:, 2:].max(0)
    gain = (enlarge - 1) / 2 * (seen[:, 2:] - seen[:, :2]).max(0) + margin
    top, left = np.maximum(0, np.floor(low - gain)).astype(int).tolist()
    bottom, right = np.minimum(size, np.ceil(high + gain)).astype(int).tolist()
    return top, left, bottom, right


def filled_windows(boxes: Windows) -> Windows:
    """Interpolate the boxes of frames in which an object is hidden.

    Args:
        boxes (ndarray[T, 4]): NaN where nothing is visible, but not everywhere.

    Returns:
        ndarray[T, 4]: linear between the neighbouring boxes, constant at the ends.
    """
    seen = np.flatnonzero(~np.isnan(boxes[:, 0]))
    frames = np.arange(len(boxes))
    return np.stack([np.interp(frames, seen, boxes[seen, side]) for side in range(4)], axis=1)


def enlarged_windows(
    boxes: Windows, enlarge: float, size: tuple[int, int], *, one_size: bool = False
) -> Windows:
    """Enlarge boxes about their centres; what leaves the frame stays.

    Args:
        boxes (ndarray[T, 4]): without NaN.
        enlarge: factor on both sides.
        size: height and width of the frames, the largest window.
        one_size: give all windows the largest height and width of any frame.

    Returns:
        ndarray[T, 4]: windows of at least one pixel.
    """
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    if one_size:
        sides = np.broadcast_to(sides.max(0), sides.shape)
    half = np.clip(sides * enlarge, 1, np.maximum(size, 1)) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def cut_windows(windows: Windows, size: tuple[int, int]) -> Windows:
    """Cut windows at the border of the frame, in whole pixels.

    Args:
        windows (ndarray[T, 4]): whose centres lie in the frame.
        size: height and width of the frames.

    Returns:
        ndarray[T, 4]: windows of at least one pixel.
    """
    low = np.clip(np.floor(windows[:, :2]), 0, np.subtract(size, 1))
    high = np.clip(np.ceil(windows[:, 2:]), low + 1, size)
    return np.concatenate([low, high], axis=1)


def steady_windows(
    boxes: Windows,
    motion: npt.NDArray[np.float64],
    areas: npt.NDArray[np.float64],
    enlarge: float,
    size: tuple[int, int],
) -> Windows:
    """Return windows of one size that move as the object does, whatever hides it.

    The window of the frame that shows most of the object is centred on it; the others follow by the
    mean flow of its visible pixels, and are moved where visible pixels would be lost.

    Args:
        boxes (ndarray[T, 4]): of its visible masks; NaN where nothing is visible.
        motion (ndarray[T, 2]): (row, column) displacement to the next frame in pixels.
        areas (ndarray[T]): visible pixels.
        enlarge: factor on the largest height and width of the boxes.
        size: height and width of the frames.

    Returns:
        ndarray[T, 4]: windows.
    """
    best = int(areas.argmax())
    path = np.concatenate([np.zeros((1, 2)), motion[:-1].cumsum(0)])
    centres = (boxes[best, :2] + boxes[best, 2:]) / 2 + path - path[best]
    sides = np.nanmax(boxes[:, 2:] - boxes[:, :2], axis=0)
    half = np.clip(sides * enlarge, 1, np.maximum(size, 1)) / 2
    filled = filled_windows(boxes)
    centres = np.maximum(np.minimum(centres, filled[:, :2] + half), filled[:, 2:] - half)
    return np.concatenate([centres - half, centres + half], axis=1)


def square_windows(boxes: Windows) -> Windows:
    """Return the squares of deocclusion around boxes.

    Args:
        boxes (ndarray[T, 4]): without NaN.

    Returns:
        ndarray[T, 4]: windows about the same centres whose side is the largest of sqrt(3 w h), 1.1
        w and 1.1 h.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    half = np.maximum(np.sqrt(3 * sides.prod(axis=1)), 1.1 * sides.max(axis=1))[:, None] / 2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centres - half, centres + half], axis=1)
