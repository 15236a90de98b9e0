"""ScaleNet: how large the whole object would be (Sec. 3.1).

The paper regresses s = min(H, W) / L of the amodal box; a patch of a fixed size cannot show
absolute pixels, so ρ = log(short side of the amodal box / short side of the proposal) is regressed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATIO_RANGE = (-0.7, 1.6)
"""Smallest and largest predicted ρ."""
_BETA = 0.1


class ScaleNet(nn.Module):
    """Regresses ρ from a square picture of the proposal.

    Args:
        backbone: from an image [B, C, S, S] to a dict of feature maps.
        feature: name of the map that is averaged.
        channels: of it.
    """

    def __init__(self, backbone: nn.Module, feature: str, channels: int) -> None:
        super().__init__()
        self.backbone, self.feature = backbone, feature
        self.hidden = nn.Linear(channels + 1, 256)
        self.ratio = nn.Linear(256, 1)
        nn.init.zeros_(self.ratio.weight)
        nn.init.zeros_(self.ratio.bias)

    def forward(self, pictures: Tensor, sizes: Tensor) -> Tensor:
        """Predict the ratios.

        Args:
            pictures (Tensor[B, C, S, S]): normalised images of the proposals, with the detector's
                mask as last channel where it is used.
            sizes (Tensor[B, 2]): height and width of the proposals in pixels.

        Returns:
            Tensor[B]: ρ, 0 at the start of training, not clamped.
        """
        pooled = self.backbone(pictures)[self.feature].mean(dim=(2, 3))
        aspect = torch.log(sizes[:, 1:] / sizes[:, :1])
        return self.ratio(F.relu(self.hidden(torch.cat([pooled, aspect], dim=1))))[:, 0]


def scale_of(ratio: Tensor, sizes: Tensor, short_side: int) -> Tensor:
    """Turn ratios into scales ŝ.

    Args:
        ratio (Tensor[B]): ρ; clamped to ``RATIO_RANGE``.
        sizes (Tensor[B, 2]): height and width of the proposals in image pixels.
        short_side: L, short side of a whole object in patch pixels.

    Returns:
        Tensor[B]: image pixels per patch pixel.
    """
    return ratio.clamp(*RATIO_RANGE).exp() * sizes.amin(dim=1) / short_side


def scale_loss(ratio: Tensor, true_scale: Tensor, sizes: Tensor, short_side: int) -> Tensor:
    """Return the mean smooth L1 loss (β = 0.1) on ρ.

    Args:
        ratio (Tensor[B]): predicted ρ.
        true_scale (Tensor[B]): short side of the amodal box over L.
        sizes (Tensor[B, 2]): height and width of the proposals in image pixels.
        short_side: L.

    Returns:
        Tensor[]: the loss.
    """
    target = torch.log(true_scale * short_side / sizes.amin(dim=1))
    return F.smooth_l1_loss(ratio, target, beta=_BETA)


def true_scale(box: tuple[float, float, float, float], short_side: int) -> float:
    """Return the scale of an object: the short side of its amodal box (x0, y0, x1, y1) over L.

    Raises:
        ValueError: if the box has no size.
    """
    short = min(box[2] - box[0], box[3] - box[1])
    if not short > 0 or not math.isfinite(short):
        raise ValueError(f"true_scale: expected an amodal box with a size, got {tuple(box)}")
    return short / short_side
