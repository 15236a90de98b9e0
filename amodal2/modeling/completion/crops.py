"""Cutting objects out of frames and pasting results back, the same for all completers.

Both are separable linear maps, ``rows @ image @ columns``, with one pair of small matrices per
window, so windows may lie anywhere and many are resampled at once. Pixel centres are at half
pixels. Cutting out averages over the area that a patch pixel covers where it shrinks (a triangle
filter, as Pillow's "bilinear"); pasting interpolates bilinearly, and patches end where they end: a
frame pixel beyond the outer patch pixels' centres gets its part of them, one farther out 0.

Letters: B windows, C channels, (h, w) patch, H W frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from amodal2.structures.crop_window import (
    Windows,
    clip_window,
    cut_windows,
    enlarged_windows,
    filled_windows,
    square_windows,
    steady_windows,
)

FOLLOWS = ("clip", "visible", "boxes", "motion", "square")


@dataclass(frozen=True)
class CropRule:
    """How objects are cut out of the video.

    Attributes:
        size (tuple[int, int] | None): height and width of the patches; None keeps the pixels of the
            frames, with one window for all of them.
        enlarge (float): factor on the visible boxes, at least 1.
        margin (int): further pixels on each side, only with "clip".
        follow (str): "clip" (one window for all frames), "visible" (the visible box of each frame,
            interpolated where the object is hidden), "boxes" (the same of boxes that are given
            beside the masks, e.g. amodal ones), "motion" (windows of one size that move by the
            mean flow of the visible pixels) or "square" (deocclusion's squares about the visible
            boxes, which ``enlarge`` does not change).
        inside (bool): cut windows at the border of the frame, in whole pixels, only with "visible"
            and "boxes".
    """

    size: tuple[int, int] | None = None
    enlarge: float = 1.0
    margin: int = 0
    follow: str = "clip"
    inside: bool = False

    def __post_init__(self) -> None:
        """Check the rule.

        Raises:
            ValueError: if a value is out of range, or frames' own pixels are to follow the object.
        """
        if self.follow not in FOLLOWS or self.enlarge < 1 or self.margin < 0:
            raise ValueError(
                f"CropRule: expected follow of {FOLLOWS}, enlarge >= 1 and margin >= 0, got {self}"
            )
        if self.size is None and self.follow != "clip":
            raise ValueError(
                f'CropRule: expected follow "clip" without a size, got {self.follow!r}'
            )
        if self.inside and self.follow not in ("visible", "boxes"):
            raise ValueError(
                f'CropRule: expected follow "visible" or "boxes" with inside, got {self.follow!r}'
            )


def crop_windows(
    boxes: Windows,
    rule: CropRule,
    size: tuple[int, int],
    *,
    motion: np.ndarray | None = None,
    areas: np.ndarray | None = None,
) -> Windows:
    """Choose the windows of one object.

    Args:
        boxes (ndarray[T, 4]): of its visible masks, or those that are given, NaN where there are
            none.
        rule: how.
        size: height and width of the frames.
        motion (ndarray[T, 2]): mean visible flow (row, column), for "motion".
        areas (ndarray[T]): visible pixels, for "motion".

    Returns:
        ndarray[T, 4]: windows (top, left, bottom, right); whole pixels inside the frame with
        "clip".

    Raises:
        ValueError: if there is no box in any frame.
    """
    window = clip_window(boxes, rule.enlarge, rule.margin, size)
    if rule.follow == "clip":
        return np.tile(np.array(window, np.float64), (len(boxes), 1))
    if rule.follow in ("visible", "boxes"):
        windows = enlarged_windows(filled_windows(boxes), rule.enlarge, size)
        return cut_windows(windows, size) if rule.inside else windows
    if rule.follow == "square":
        return square_windows(filled_windows(boxes))
    assert motion is not None, '"motion" needs flow'
    assert areas is not None, '"motion" needs areas'
    return steady_windows(boxes, motion, areas, rule.enlarge, size)


def mean_motion(flow: Tensor, visible: Tensor) -> Tensor:
    """Average the flow over the visible pixels of each frame.

    Args:
        flow (Tensor[B, 2, H, W]): (x, y) in pixels.
        visible (Tensor[B, H, W]): bool, or weights of at least 0.

    Returns:
        Tensor[B, 2]: (x, y); 0 where nothing is visible.
    """
    weights = visible.to(flow.dtype)[:, None]
    sums = (flow * weights).sum(dim=(2, 3))
    return sums / weights.sum(dim=(2, 3)).clamp(min=1e-6)


def crop_patches(images: Tensor, windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut windows out and bring them to one size.

    Args:
        images (Tensor[B, C, H, W]): floating.
        windows (Tensor[B, 4]): (top, left, bottom, right) in pixels, of any position.
        size: (h, w) of the patches.

    Returns:
        Tensor[B, C, h, w]: 0 where a patch pixel's centre lies outside the frame.
    """
    rows = _crop_matrix(windows[:, 0], windows[:, 2], size[0], images.shape[2], images.dtype)
    columns = _crop_matrix(windows[:, 1], windows[:, 3], size[1], images.shape[3], images.dtype)
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)


def paste_patches(
    patches: Tensor,
    windows: Tensor,
    size: tuple[int, int],
    shift: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Put patches back where they were cut out.

    Args:
        patches (Tensor[B, C, h, w]): floating.
        windows (Tensor[B, 4]): (top, left, bottom, right) in pixels; sides below one pixel count as
            one.
        size: (H, W) of the frames.
        shift: rows and columns, in patch pixels, by which the reading is displaced (official SaVos:
            half a pixel where frame and patch differ by an odd number).

    Returns:
        Tensor[B, C, H, W]: 0 outside the patches. Differentiable in the patches.
    """
    height, width = patches.shape[2:]
    rows = _paste_matrix(windows[:, 0], windows[:, 2], height, size[0], shift[0], patches.dtype)
    columns = _paste_matrix(windows[:, 1], windows[:, 3], width, size[1], shift[1], patches.dtype)
    return rows[:, None] @ patches @ columns[:, None].transpose(2, 3)


def _crop_matrix(low: Tensor, high: Tensor, count: int, extent: int, dtype: torch.dtype) -> Tensor:
    """Return the weights [B, count, extent] of frame pixels in patch pixels."""
    scale = (high - low)[:, None] / count
    centres = low[:, None] + (torch.arange(count, device=low.device) + 0.5) * scale
    pixels = torch.arange(extent, device=low.device) + 0.5
    # The outer pixels stand for what is beyond the border, up to the edge of the frame itself.
    reach = scale.clamp(min=1)[..., None]
    nearest = centres.clamp(0.5, extent - 0.5)[..., None]
    weights = (1 - (nearest - pixels).abs() / reach).clamp(min=0)
    inside = (centres >= 0) & (centres <= extent)
    weights = weights / weights.sum(dim=2, keepdim=True) * inside[..., None]
    return weights.to(dtype)


def _paste_matrix(
    low: Tensor, high: Tensor, count: int, extent: int, shift: float, dtype: torch.dtype
) -> Tensor:
    """Return the weights [B, extent, count] of patch pixels in frame pixels."""
    scale = count / (high - low).clamp(min=1)[:, None]
    pixels = torch.arange(extent, device=low.device) + 0.5
    places = (pixels - low[:, None]) * scale - 0.5 + shift
    taps = torch.arange(count, device=low.device)
    return (1 - (places[..., None] - taps).abs()).clamp(min=0).to(dtype)
