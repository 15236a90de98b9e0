"""Non-parametric transfer (Sec. 3.4) and what makes its masks fit better.

A reference pixel x_r lands in the image at centre + scale · (x_r - c_r). Coordinates are pixels
from the outer top-left edge, order (x, y). Shapes: N objects, H W image, h w reference masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_STEPS = 20
_GRID = 56
_RATE = 0.05
_REACH = 0.75
_EPS = 1e-6


@dataclass
class Placement:
    """Where reference masks lie in the image.

    Attributes:
        centre (Tensor[N, 2]): x, y of the whole objects' centres in image pixels.
        scale (Tensor[N, 2]): image pixels per reference pixel along x and y.
    """

    centre: Tensor
    scale: Tensor

    def take(self, index: Tensor) -> Placement:
        """Return some of the placements."""
        return Placement(self.centre[index], self.scale[index])


def warp_masks(masks: Tensor, sizes: Tensor, placement: Placement, points: Tensor) -> Tensor:
    """Look transferred masks up at points of the image, bilinearly; 0 outside the references.

    Args:
        masks (Tensor[N, h, w]): float reference masks, padded below and to the right.
        sizes (Tensor[N, 2]): their true heights and widths.
        placement: where they lie.
        points (Tensor[N, a, b, 2]): x, y in image pixels.

    Returns:
        Tensor[N, a, b]: differentiable in the placement.
    """
    middle = sizes.flip(1).to(points.dtype)[:, None, None] / 2
    offset = points - placement.centre[:, None, None]
    source = offset / placement.scale[:, None, None] + middle
    shape = source.new_tensor([masks.shape[2], masks.shape[1]])
    grid = 2 * source / shape - 1
    return F.grid_sample(
        masks[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )[:, 0]


def image_points(size: tuple[int, int], device: torch.device) -> Tensor:
    """Return the centres (Tensor[1, H, W, 2], order x, y) of the pixels of an image."""
    rows = torch.arange(size[0], device=device) + 0.5
    columns = torch.arange(size[1], device=device) + 0.5
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1)[None]


def transfer_masks(
    masks: Tensor, sizes: Tensor, placement: Placement, size: tuple[int, int]
) -> Tensor:
    """Paste reference masks into the image.

    Args:
        masks (Tensor[N, h, w]): float.
        sizes (Tensor[N, 2]): true heights and widths.
        placement: where they lie.
        size: H, W.

    Returns:
        Tensor[N, H, W]: float in [0, 1], of which 0.5 is the outline.
    """
    points = image_points(size, masks.device)
    return torch.stack(
        [
            warp_masks(
                masks[n : n + 1],
                sizes[n : n + 1],
                Placement(placement.centre[n : n + 1], placement.scale[n : n + 1]),
                points,
            )[0]
            for n in range(len(masks))
        ]
        or [masks.new_zeros(size)]
    )[: len(masks)]


def agreement(masks: Tensor, visible: Tensor, others: Tensor) -> Tensor:
    """Return the soft IoU of what the others leave of the masks with the visible masks.

    Args:
        masks (Tensor[N, H, W]): float in [0, 1].
        visible (Tensor[N, H, W]): float 0 or 1.
        others (Tensor[N, H, W]): float 0 or 1, the visible masks of all other objects.

    Returns:
        Tensor[N]: 0 to 1.
    """
    shown = masks * (1 - others)
    both = (shown * visible).sum(dim=(1, 2))
    either = (shown + visible - shown * visible).sum(dim=(1, 2))
    return both / (either + _EPS)


def refine_affine(
    masks: Tensor, sizes: Tensor, placement: Placement, visible: Tensor, others: Tensor
) -> Placement:
    """Move and scale transferred masks so that they agree with the visible masks.

    20 steps of Adam over (t_x, t_y, log s_x, log s_y) on a grid of 56 x 56 points around each mask;
    kept only where the agreement has grown.

    Args:
        masks (Tensor[N, h, w]): float reference masks.
        sizes (Tensor[N, 2]): their true heights and widths.
        placement: where they lie.
        visible (Tensor[N, H, W]): float 0 or 1.
        others (Tensor[N, H, W]): float 0 or 1.

    Returns:
        Placement: new.
    """
    if len(masks) == 0:
        return placement
    points, extent = _points_around(sizes, placement, visible)
    seen, hidden = (sample_maps(maps, points) for maps in (visible, others))
    change = torch.zeros(len(masks), 4, device=masks.device, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=_RATE)
    with torch.enable_grad():
        for _ in range(_STEPS):
            moved = _changed(placement, change, extent)
            fit = agreement(warp_masks(masks, sizes, moved, points), seen, hidden)
            optimizer.zero_grad()
            (-fit.sum()).backward()
            optimizer.step()
    with torch.no_grad():
        moved = _changed(placement, change, extent)
        before, after = (
            agreement((warp_masks(masks, sizes, p, points) >= 0.5).float(), seen, hidden)
            for p in (placement, moved)
        )
        better = (after > before)[:, None]
        return Placement(
            torch.where(better, moved.centre, placement.centre),
            torch.where(better, moved.scale, placement.scale),
        )


def _changed(placement: Placement, change: Tensor, extent: Tensor) -> Placement:
    """Apply shifts in units of the masks' extents and logarithms of scales."""
    return Placement(
        placement.centre + change[:, :2] * extent, placement.scale * change[:, 2:].exp()
    )


def _points_around(sizes: Tensor, placement: Placement, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Return a grid of points (Tensor[N, 56, 56, 2]) over mask and visible mask, and its extent."""
    extent = placement.scale * sizes.flip(1)
    low, high = placement.centre - _REACH * extent, placement.centre + _REACH * extent
    for n, mask in enumerate(visible):
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        if len(rows):
            first = torch.stack([columns[0, 0], rows[0, 0]]).to(low)
            last = torch.stack([columns[-1, 0], rows[-1, 0]]).to(low) + 1
            low[n], high[n] = torch.minimum(low[n], first), torch.maximum(high[n], last)
    steps = (torch.arange(_GRID, device=low.device) + 0.5) / _GRID
    x = low[:, :1] + steps * (high - low)[:, :1]
    y = low[:, 1:] + steps * (high - low)[:, 1:]
    shape = (len(low), _GRID, _GRID)
    points = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    return points, extent


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Look maps of the image up at points, bilinearly; 0 outside.

    Args:
        maps (Tensor[N, H, W]): float.
        points (Tensor[N, a, b, 2]): x, y in pixels.

    Returns:
        Tensor[N, a, b]: values.
    """
    grid = 2 * points / points.new_tensor([maps.shape[2], maps.shape[1]]) - 1
    return F.grid_sample(maps[:, None], grid, padding_mode="zeros", align_corners=False)[:, 0]


def unite_with_visible(masks: Tensor, visible: Tensor, others: Tensor, ring: int) -> Tensor:
    """Keep all visible pixels; claim others only under other objects or near visible ones.

    Args:
        masks (Tensor[N, H, W]): bool.
        visible (Tensor[N, H, W]): bool.
        others (Tensor[N, H, W]): bool, visible masks of all other objects.
        ring: reach around the visible pixels in pixels.

    Returns:
        Tensor[N, H, W]: bool.
    """
    if len(masks) == 0:
        return masks
    near = F.max_pool2d(visible.float()[:, None], 2 * ring + 1, stride=1, padding=ring)[:, 0] > 0
    return visible | (masks & (others | near))


def others_of(visible: Tensor) -> Tensor:
    """Return for every object what the others' visible masks cover of what it does not show itself.

    Found masks overlap, above all where one object is found twice; a place that an object shows
    cannot be hidden.

    Args:
        visible (Tensor[N, H, W]): bool.

    Returns:
        Tensor[N, H, W]: bool.
    """
    return visible.any(dim=0) & ~visible
