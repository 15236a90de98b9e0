"""Features of patches: a backbone and the visual concept layer Y = f1(X; w1, w̄) (Sec. 3).

Shapes: V concepts, h w cells of STRIDE patch pixels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VisualConceptLayer(nn.Module):
    """Y_v = softplus(w̄_v) · ReLU(w1_vᵀ x / ‖x‖ + b_v): which concept is seen in which cell.

    Args:
        in_channels: of the backbone's features.
        num_concepts: V.
        unit: divide the features of every cell by their norm; False takes them as they are.
    """

    def __init__(self, in_channels: int, num_concepts: int, *, unit: bool = True) -> None:
        super().__init__()
        self.unit = unit
        self.filters = nn.Conv2d(in_channels, num_concepts, 1)
        nn.init.normal_(self.filters.weight, std=1 / math.sqrt(in_channels))
        bias = self.filters.bias
        assert bias is not None, "the filters are made with a bias"
        nn.init.zeros_(bias)
        # softplus of it is 1.
        self.importance = nn.Parameter(torch.full((num_concepts,), math.log(math.e - 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Return the concepts (Tensor[B, V, h, w], not negative) of features [B, C, h, w]."""
        active = F.relu(self.filters(F.normalize(features, dim=1) if self.unit else features))
        return F.softplus(self.importance)[:, None, None] * active


class PatchEncoder(nn.Module):
    """Encodes patches one by one, so that no patch depends on its neighbours in a batch.

    Args:
        backbone: from an image [B, 3, h, w] to a dict of feature maps.
        feature: name of the map that is used.
        stride: patch pixels per cell of it.
        channels: of it.
        num_concepts: V.
        unit: of ``VisualConceptLayer``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature: str,
        stride: int,
        channels: int,
        num_concepts: int,
        *,
        unit: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.concepts = VisualConceptLayer(channels, num_concepts, unit=unit)
        self.feature, self.stride, self.num_concepts = feature, stride, num_concepts

    def forward(self, patches: Sequence[Tensor]) -> list[Tensor]:
        """Encode patches.

        Args:
            patches (Sequence[Tensor[3, h, w]]): normalised images of any size.

        Returns:
            list[Tensor[V, ceil(h / stride), ceil(w / stride)]]: their concepts.
        """
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, patch in enumerate(patches):
            groups[self._padded(patch.shape[-2:])].append(index)
        found: dict[int, Tensor] = {}
        for (height, width), members in groups.items():
            batch = torch.stack(
                [
                    F.pad(p, (0, width - p.shape[-1], 0, height - p.shape[-2]))
                    for p in (patches[i] for i in members)
                ]
            )
            cells = (height // self.stride, width // self.stride)
            maps = self.concepts(self.backbone(batch)[self.feature][..., : cells[0], : cells[1]])
            found.update(zip(members, maps, strict=True))
        return [found[index] for index in range(len(patches))]

    def _padded(self, size: Sequence[int]) -> tuple[int, int]:
        return (
            math.ceil(size[0] / self.stride) * self.stride,
            math.ceil(size[1] / self.stride) * self.stride,
        )
