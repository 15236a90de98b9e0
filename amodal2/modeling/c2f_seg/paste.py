"""From patches back to whole images, and the post-processing of images.

The rule for video (only other objects' pixels can hide something) is "others" of
:class:`amodal2.modeling.completion.CompletionSettings`.

Shapes: B patches of side S, H W image.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

Crop = tuple[int, int, int, int]
"""Top, left, height and width of a patch's region in pixels of the image, all of it inside."""


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
