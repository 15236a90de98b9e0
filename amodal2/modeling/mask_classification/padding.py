"""Padding of network inputs at the right and bottom."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad images with zeros at the right and bottom.

    Args:
        images (Tensor[..., H, W]): images.
        multiple: both sizes become a multiple of this.

    Returns:
        Tensor[..., H', W']: padded images.
    """
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))


def valid_area(
    image_size: tuple[int, int],
    padded_size: tuple[int, int],
    map_size: tuple[int, int],
    like: Tensor,
) -> Tensor:
    """Mark the cells of a feature map that begin inside the image.

    Args:
        image_size: (height, width) of the image in pixels.
        padded_size: (height, width) of the padded input.
        map_size: (h, w) of the feature map.
        like (Tensor): gives the device.

    Returns:
        Tensor[h, w]: bool.
    """
    rows, columns = (
        torch.arange(cells, device=like.device) * padded < image * cells
        for image, padded, cells in zip(image_size, padded_size, map_size, strict=True)
    )
    return rows[:, None] & columns[None]
