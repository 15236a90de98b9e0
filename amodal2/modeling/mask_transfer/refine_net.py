"""A small network that corrects transferred masks by what is seen around them.

The paper names it as future work; this one sees the picture, the visible mask, the transferred mask
and the other objects, and not the reference's features. Shapes: B windows, S = 112 side of a
window, H W region.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal2.modeling.mask_transfer.transfer import sample_maps

SIDE = 112
"""Side of a window in cells."""
REACH = 2.0
"""Sides of a window in sides of the proposal's crop."""
_SURE = 0.98
_EPS = 1.0


class RefineNet(nn.Module):
    """Three times halved and doubled, with skip connections; group normalisation.

    Args:
        channels: of the finest level; each coarser one has twice as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(4)]
        self.first = _block(6, widths[0])
        self.down = nn.ModuleList(_block(a, b) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(_block(a + b, a) for a, b in itertools.pairwise(widths))
        self.last = nn.Conv2d(widths[0], 1, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None, "convolutions have a bias"
        nn.init.zeros_(self.last.bias)

    def forward(self, images: Tensor, visible: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """Correct masks.

        Args:
            images (Tensor[B, 3, S, S]): normalised, 0 outside the image.
            visible (Tensor[B, S, S]): the objects' visible masks, in [0, 1].
            masks (Tensor[B, S, S]): transferred, in [0, 1].
            others (Tensor[B, S, S]): the other objects' visible masks, in [0, 1].

        Returns:
            Tensor[B, S, S]: logits of the whole objects; at the start of training those of
            ``masks``.
        """
        x = self.first(torch.cat([images, torch.stack([visible, masks, others], dim=1)], dim=1))
        levels = [x]
        for block in self.down:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        x = levels.pop()
        for block in reversed(self.up):
            wide = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([levels.pop(), wide], dim=1))
        return self.last(x)[:, 0] + torch.logit(masks.clamp(1 - _SURE, _SURE))


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
    return nn.Sequential(*layers)


def window_points(box: Tensor) -> Tensor:
    """Return the cells' centres of windows about boxes.

    Args:
        box (Tensor[B, 4]): x0, y0, x1, y1 of the proposals' crops in pixels.

    Returns:
        Tensor[B, S, S, 2]: x, y in pixels.
    """
    middle, half = (box[:, :2] + box[:, 2:]) / 2, REACH * (box[:, 2:] - box[:, :2]) / 2
    steps = (2 * torch.arange(SIDE, device=box.device) + 1) / SIDE - 1
    x = middle[:, :1] + steps * half[:, :1]
    y = middle[:, 1:] + steps * half[:, 1:]
    shape = (len(box), SIDE, SIDE)
    return torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)


def paste_window(window: Tensor, box: Tensor, points: Tensor, outside: Tensor) -> Tensor:
    """Look a window's values up in the image; keep others where it does not reach.

    Args:
        window (Tensor[S, S]): float.
        box (Tensor[4]): of the crop that the window lies about.
        points (Tensor[1, H, W, 2]): x, y in pixels.
        outside (Tensor[H, W]): float.

    Returns:
        Tensor[H, W]: values of the window inside, else those of ``outside``.
    """
    size = REACH * (box[2:] - box[:2])
    corner = (box[:2] + box[2:] - size) / 2
    place = (points - corner) / size  # 0 to 1 inside the window
    inside = ((place >= 0) & (place <= 1)).all(dim=-1)[0]
    grid = 2 * place - 1
    values = F.grid_sample(window[None, None], grid, padding_mode="border", align_corners=False)
    return torch.where(inside, values[0, 0], outside)


def refine_loss(logits: Tensor, amodal: Tensor) -> Tensor:
    """Return the binary cross-entropy plus one minus the Dice coefficient.

    Args:
        logits (Tensor[B, S, S]): B = 0 gives 0.
        amodal (Tensor[B, S, S]): the whole objects, in [0, 1].

    Returns:
        Tensor[]: the mean.
    """
    if len(logits) == 0:
        return logits.sum()
    found = logits.sigmoid()
    both = 2 * (found * amodal).sum(dim=(1, 2)) + _EPS
    dice = both / (found.sum(dim=(1, 2)) + amodal.sum(dim=(1, 2)) + _EPS)
    return F.binary_cross_entropy_with_logits(logits, amodal) + (1 - dice).mean()


def sample_region(region: dict[str, Tensor], points: Tensor) -> dict[str, Tensor]:
    """Look the maps of a region up.

    Args:
        region: maps (float Tensor[C, H, W] or Tensor[H, W]) by name and "origin" (Tensor[2], x and
            y of its corner).
        points (Tensor[1, S, S, 2]): x, y in the frame of the origin.

    Returns:
        dict[str, Tensor]: maps [C, S, S] or [S, S], 0 outside the region.
    """
    own = points - region["origin"]
    found = {}
    for name, values in region.items():
        if name != "origin":
            planes = values if values.dim() == 3 else values[None]
            sampled = sample_maps(planes, own.expand(len(planes), -1, -1, -1))
            found[name] = sampled if values.dim() == 3 else sampled[0]
    return found
