"""ScaleNet: how large the whole object would be (Sec. 3.1).

The paper regresses s = min(H, W) / L of the amodal box; a patch of a fixed size cannot show
absolute pixels, so ρ = log(short side of the amodal box / short side of the proposal) is regressed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18, resnet34, resnet50

RATIO_RANGE = (-0.7, 1.6)
"""Smallest and largest predicted ρ."""
_BETA = 0.1
_RESNETS = {18: resnet18, 34: resnet34, 50: resnet50}


class ScaleNet(nn.Module):
    """Regresses ρ from a square picture of the proposal.

    Args:
        trunk: from an image [B, C, S, S] to the feature map that is averaged.
        channels: of this map.
    """

    def __init__(self, trunk: nn.Module, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
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
        pooled = self.trunk(pictures).mean(dim=(2, 3))
        aspect = torch.log(sizes[:, 1:] / sizes[:, :1])
        return self.ratio(F.relu(self.hidden(torch.cat([pooled, aspect], dim=1))))[:, 0]


def build_scale_net(depth: int, *, with_mask: bool) -> ScaleNet:
    """Build a ScaleNet on a ResNet with group normalisation, so that no proposal sees the others.

    Args:
        depth: 18, 34 or 50.
        with_mask: take the mask as fourth channel; its filters start at zero.

    Returns:
        ScaleNet: with initial weights.

    Raises:
        ValueError: for another depth.
    """
    if depth not in _RESNETS:
        raise ValueError(f"build_scale_net: expected a depth of {sorted(_RESNETS)}, got {depth}")
    resnet = _RESNETS[depth](norm_layer=lambda channels: nn.GroupNorm(32, channels))
    channels = resnet.fc.in_features
    stem = nn.Conv2d(4 if with_mask else 3, 64, 7, stride=2, padding=3, bias=False)
    with torch.no_grad():
        stem.weight.zero_()
        stem.weight[:, :3] = resnet.conv1.weight
    return ScaleNet(nn.Sequential(stem, *list(resnet.children())[1:-2]), channels)


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
