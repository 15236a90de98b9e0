"""Masks of few objects that many regions refer to.

Detectron2's ROI heads give each of some 512 regions per image a copy of its object's mask. With
full-size masks of several kinds that takes gigabytes; here every region keeps a number instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align


class SharedMasks:
    """N references to M masks; a field of ``Instances`` with the interface of ``BitMasks``.

    Indexing by tensors, slices and lists selects references and copies no mask.
    """

    def __init__(self, masks: Tensor, index: Tensor | None = None) -> None:
        """Refer to masks.

        Args:
            masks (Tensor[M, H, W]): bool.
            index (Tensor[N]): int64, which mask each entry means; None for one entry per mask.

        Raises:
            ValueError: if the masks have another number of axes.
        """
        if masks.dim() != 3:
            raise ValueError(f"SharedMasks: expected masks [M, H, W], got {list(masks.shape)}")
        self.masks = masks
        self.index = torch.arange(len(masks), device=masks.device) if index is None else index

    def __len__(self) -> int:
        """Return the number of references N."""
        return len(self.index)

    def __getitem__(self, item: Any) -> SharedMasks:
        """Select references; an integer gives a single one."""
        index = self.index[item]
        return SharedMasks(self.masks, index.reshape(-1))

    def to(self, *args: Any, **kwargs: Any) -> SharedMasks:
        """Move the masks to a device."""
        masks = self.masks.to(*args, **kwargs)
        return SharedMasks(masks, self.index.to(masks.device))

    def crop_and_resize(self, boxes: Tensor, size: int) -> Tensor:
        """Cut a box out of each mask and resample it, as ``BitMasks.crop_and_resize`` does.

        Args:
            boxes (Tensor[N, 4]): corners x0, y0, x1, y1 in pixels.
            size: height and width of the results.

        Returns:
            Tensor[N, size, size]: bool; True where at least half of a cell is inside the mask.

        Raises:
            ValueError: if there is another number of boxes.
        """
        if len(boxes) != len(self):
            raise ValueError(
                f"SharedMasks.crop_and_resize: expected {len(self)} boxes, got {len(boxes)}"
            )
        if not len(self):
            return self.masks.new_zeros((0, size, size))
        used, position = self.index.unique(return_inverse=True)
        boxes = boxes.to(self.masks.device, torch.float32)
        regions = torch.cat((position[:, None].to(boxes.dtype), boxes), dim=1)
        maps = self.masks[used, None].to(boxes.dtype)
        return roi_align(maps, regions, (size, size), aligned=True)[:, 0] >= 0.5
