"""What passes between the steps of a transfer.

Shapes: R references of a class, V concepts, h w cells, H W image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from amodal2.modeling.mask_transfer.patches import Patch


@dataclass
class Query:
    """A proposal that can be completed.

    Attributes:
        number: of its object.
        class_id: contiguous class index.
        patch: rescaled.
        concepts: Tensor[V, h, w].
        scale: predicted image pixels per patch pixel.
    """

    number: int
    class_id: int
    patch: Patch
    concepts: Tensor
    scale: float

    @property
    def box(self) -> Tensor:
        """The crop's x0, y0, x1, y1 in image pixels."""
        origin, scale = self.concepts.new_tensor([self.patch.origin, self.patch.scale])
        height, width = self.patch.size
        return torch.cat([origin, origin + scale * origin.new_tensor([width, height])])


@dataclass
class Match:
    """What a query's votes say about references.

    Attributes:
        index (Tensor[R]): int64, which references of the class.
        logits (Tensor[R]): log-odds of having the query's shape.
        middles (Tensor[R, 2]): x, y of the whole object's centre in image pixels.
        scale (Tensor[2]): image pixels per reference pixel, along x and y.
    """

    index: Tensor
    logits: Tensor
    middles: Tensor
    scale: Tensor


@dataclass
class Scene:
    """What is seen around one object.

    Attributes:
        image (Tensor[3, H, W]): normalised.
        visible (Tensor[H, W]): bool.
        others (Tensor[H, W]): bool, the visible masks of all other objects.
    """

    image: Tensor
    visible: Tensor
    others: Tensor
