"""Patches of objects, cut out of an image and rescaled so that objects have one size.

A patch pixel (x, y) lies at ``origin + scale * (x, y)`` in the image; both count from the outer
edge of the top-left pixel. Shapes: h w patch, H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Patch:
    """A rescaled part of an image.

    Attributes:
        image (Tensor[C, h, w]): float.
        origin (tuple[float, float]): x, y of its corner in image pixels.
        scale (tuple[float, float]): image pixels per patch pixel, along x and y.
    """

    image: Tensor
    origin: tuple[float, float]
    scale: tuple[float, float]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in patch pixels."""
        return self.image.shape[-2], self.image.shape[-1]


def whole_box(
    box: Sequence[float], size: tuple[int, int], context: float = 1.0
) -> tuple[int, int, int, int] | None:
    """Enlarge a box about its centre and round it outwards to pixels of the image.

    Args:
        box: x0, y0, x1, y1 in pixels.
        size: H, W of the image.
        context: factor on both sides.

    Returns:
        tuple: x0, y0, x1, y1; None if the box has no size or nothing of it is inside.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    if not (x1 > x0 and y1 > y0):
        return None
    grow_x, grow_y = (context - 1) * (x1 - x0) / 2, (context - 1) * (y1 - y0) / 2
    low_x, low_y = max(0, int(x0 - grow_x)), max(0, int(y0 - grow_y))
    high_x, high_y = (
        min(size[1], -int(-(x1 + grow_x) // 1)),
        min(size[0], -int(-(y1 + grow_y) // 1)),
    )
    if high_x <= low_x or high_y <= low_y:
        return None
    return low_x, low_y, high_x, high_y


def rescale(
    crop: Tensor, scale: float, longest: int, origin: tuple[float, float] = (0.0, 0.0)
) -> Patch:
    """Resize a crop by 1 / scale, bilinearly with antialiasing.

    Args:
        crop (Tensor[C, H, W]): float.
        scale: crop pixels per patch pixel, positive.
        longest: limit of the patch's longer side in pixels.
        origin: x, y of the crop's corner in the image.

    Returns:
        Patch: at least one pixel per side; its scale is the exact one after rounding.
    """
    height, width = crop.shape[-2:]
    scale = max(scale, max(height, width) / longest)
    size = (max(1, round(height / scale)), max(1, round(width / scale)))
    image = F.interpolate(
        crop[None], size=size, mode="bilinear", align_corners=False, antialias=True
    )[0]
    return Patch(image, origin, (width / size[1], height / size[0]))


def to_square(crop: Tensor, side: int) -> Tensor:
    """Resize a crop (float Tensor[C, H, W]) to Tensor[C, side, side], whatever its aspect ratio."""
    return F.interpolate(
        crop[None], size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )[0]


def stack_padded(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors [..., h, w] of different sizes, with zeros below and to the right.

    Args:
        tensors (Sequence[Tensor]): at least one; equal but for the last two dimensions.

    Returns:
        Tensor[N, ..., h, w]: of the largest height and width.
    """
    height = max(tensor.shape[-2] for tensor in tensors)
    width = max(tensor.shape[-1] for tensor in tensors)
    return torch.stack(
        [F.pad(t, (0, width - t.shape[-1], 0, height - t.shape[-2])) for t in tensors]
    )
