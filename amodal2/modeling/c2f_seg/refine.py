"""Convolutional refinement of the coarse mask (C2F-Seg, Sec. 3.3), the same for images and video.

Shapes: B masks, S side in pixels; C2, C3, C4, C5 image features of sides S / 4, S / 8, h and h with
h the side of the code grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal2.modeling.c2f_seg.vq_blocks import convolve

BRANCHES = ("vm", "am")
"""Official suffixes of the layers of the visible and of the amodal branch."""


def semantic_attention(features: Tensor, mask: Tensor) -> Tensor:
    """Compare every position with the mean feature inside a mask.

    Args:
        features (Tensor[B, C, h, h]): of the image.
        mask (Tensor[B, 1, h, h]): weights of at least 0.

    Returns:
        Tensor[B, 1, h, h]: sums to 1 per mask; uniform for an empty one.
    """
    flat, weights = features.flatten(2), mask.flatten(2)
    mean = (flat * weights).sum(2) / (weights.sum(2) + 1e-6)  # [B, C]
    scores = torch.einsum("bc,bcl->bl", mean, flat)
    return scores.softmax(dim=1).view_as(mask)


class RefineModule(nn.Module):
    """From features and coarse mask to fine logits (official ``refine``).

    Args:
        feature_channels: of C2, C3, C4 and C5.
        widths: channels after ``conv_in`` and after layers 2 to 5.
        single_branch: leave the visible branch out (C2F-Seg, Table 3).
    """

    def __init__(
        self,
        feature_channels: Sequence[int] = (256, 512, 1024, 2048),
        widths: Sequence[int] = (256, 128, 64, 32, 16),
        *,
        single_branch: bool = False,
    ) -> None:
        super().__init__()
        c2, c3, c4, c5 = feature_channels
        first, second, third, fourth, fifth = widths
        self.conv_adapter = nn.Conv2d(c5, c5, 1)
        self.conv_in = nn.Conv2d(c5, first, 3, padding=1)
        self.lay1 = nn.Conv2d(first + 2, first + 2, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(first + 2)
        self.lay2 = nn.Conv2d(first + 2, second, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(second)
        self.adapter1 = nn.Conv2d(c4, second, 1)
        self.lay3 = nn.Conv2d(second, third, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(third)
        self.branches = BRANCHES[1:] if single_branch else BRANCHES
        for name in self.branches:
            self.add_module(f"adapter2_{name}", nn.Conv2d(c3, third, 1))
            self.add_module(f"lay4_{name}", nn.Conv2d(third, fourth, 3, padding=1))
            self.add_module(f"bn4_{name}", nn.BatchNorm2d(fourth))
            self.add_module(f"adapter3_{name}", nn.Conv2d(c2, fourth, 1))
            self.add_module(f"lay5_{name}", nn.Conv2d(fourth, fifth, 3, padding=1))
            self.add_module(f"bn5_{name}", nn.BatchNorm2d(fifth))
            self.add_module(f"out_lay_{name}", nn.Conv2d(fifth, 1, 3, padding=1))

    def forward(
        self, features: Sequence[Tensor], coarse: Tensor, *, visible: bool = True
    ) -> tuple[Tensor | None, Tensor]:
        """Refine coarse masks.

        Args:
            features: C2, C3, C4 and C5.
            coarse (Tensor[B, 1, S, S] or [B, 1, h, h]): in [0, 1]; every (S / h)-th pixel is used,
                which may be all that is given.
            visible: run the visible branch too, if there is one.

        Returns:
            tuple: logits of the visible (None without its branch) and of the amodal masks,
            Tensor[B, 1, S / 2, S / 2].
        """
        c2, c3, c4, c5 = features
        step = coarse.shape[-1] // c5.shape[-1]
        adapted = self.conv_adapter(c5)
        mask = coarse[..., ::step, ::step]
        attention = semantic_attention(adapted, mask)
        x = torch.cat([convolve(self.conv_in, adapted), attention, mask], dim=1)
        x = F.relu(self.bn1(convolve(self.lay1, x)))
        x = F.relu(self.bn2(convolve(self.lay2, x)))
        x = F.interpolate(x + self.adapter1(c4), size=c3.shape[-2:], mode="nearest")
        x = F.relu(self.bn3(convolve(self.lay3, x)))
        both = visible and "vm" in self.branches
        return (self._branch("vm", x, c2, c3) if both else None), self._branch("am", x, c2, c3)

    def _branch(self, name: str, x: Tensor, c2: Tensor, c3: Tensor) -> Tensor:
        layer = self.get_submodule
        y = x + layer(f"adapter2_{name}")(c3)
        y = F.interpolate(y, size=c2.shape[-2:], mode="nearest")
        y = F.relu(layer(f"bn4_{name}")(layer(f"lay4_{name}")(y)))
        y = F.interpolate(y + layer(f"adapter3_{name}")(c2), scale_factor=2.0, mode="nearest")
        y = F.relu(layer(f"bn5_{name}")(layer(f"lay5_{name}")(y)))
        return layer(f"out_lay_{name}")(y)
