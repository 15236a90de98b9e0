"""From patches back to whole images, and the two rules of post-processing.

Shapes: B patches of side S, H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Crop = tuple[int, int, int, int]
"""Top, left, height and width of a patch's region in pixels of the image, all of it inside."""


def official_crop(position: Sequence[float], size: tuple[int, int]) -> Crop:
    """Translate the official ``obj_position`` (row, row, column, column; the last one included).

    Args:
        position: first row, last row, first column, last column; the last ones may lie one pixel
            outside.
        size: height and width of the image.

    Returns:
        tuple: the crop, cut at the border.
    """
    top, bottom, left, right = (int(value) for value in position)
    return top, left, min(size[0], bottom + 1) - top, min(size[1], right + 1) - left


def paste_patch(
    patch: Tensor,
    crop: Crop,
    size: tuple[int, int],
    *,
    padding: tuple[int, int] = (0, 0),
    antialias: bool = True,
) -> Tensor:
    """Put a patch back where it was cut out (C2F-Seg's ``align_raw_size``).

    Args:
        patch (Tensor[C, S, S]): probabilities.
        crop: the region that the patch shows.
        size: H and W.
        padding: rows at the bottom and columns at the right of the patch that show nothing.
        antialias: average where the patch shrinks, as torchvision does from 0.17 on; False takes
            four pixels only, as at the time of the paper.

    Returns:
        Tensor[C, H, W]: 0 outside the crop.

    Raises:
        ValueError: if the crop is empty or does not lie in the image.
    """
    top, left, height, width = crop
    inside = 0 <= top and 0 <= left and top + height <= size[0] and left + width <= size[1]
    if not inside or height < 1 or width < 1:
        raise ValueError(
            f"paste_patch: expected a crop (top, left, height, width) inside an image of {size}, "
            f"got {crop}"
        )
    kept = patch[:, : patch.shape[1] - padding[0], : patch.shape[2] - padding[1]]
    found = F.interpolate(
        kept[None], size=(height, width), mode="bilinear", align_corners=False, antialias=antialias
    )[0]
    right, bottom = size[1] - left - width, size[0] - top - height
    return F.pad(found, (left, right, top, bottom))


def add_visible(amodal: Tensor, visible: Tensor) -> Tensor:
    """Post-process an image: the object has at least the pixels that were given as visible.

    Args:
        amodal (Tensor[...]): bool.
        visible (Tensor[...]): bool, the mask that the model was given.

    Returns:
        Tensor[...]: bool.
    """
    return amodal | visible


def keep_under_others(amodal: Tensor, visible: Tensor, others: Tensor) -> Tensor:
    """Post-process a clip: only pixels of other objects can hide something (official loss mask).

    Args:
        amodal (Tensor[...]): bool.
        visible (Tensor[...]): bool.
        others (Tensor[...]): bool, pixels where other objects are visible.

    Returns:
        Tensor[...]: bool, the prediction there and the visible mask elsewhere.
    """
    return torch.where(others, amodal, visible)
