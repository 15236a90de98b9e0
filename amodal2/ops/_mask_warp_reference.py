"""The ops of warping and splatting in PyTorch, with index arithmetic and ``index_add_``.

Letters as in ``amodal2.ops.mask_warp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amodal2.ops._mask_warp_checks import check_finite, check_tensors


class _Taps(NamedTuple):
    """The four pixels around the point of each pixel: top left and right, bottom left and right.

    Attributes:
        pixel (Tensor[4, N, H * W]): its number in the image, 0 where it lies outside.
        inside (Tensor[4, N, H * W]): whether it lies inside.
        x (Tensor[N, H * W]): way from the left to the right ones.
        y (Tensor[N, H * W]): way from the top to the bottom ones.
        moves (Tensor[N, 2, H * W]): whether x, y change with the flow.
        finite (Tensor[N, H * W]): whether the flow is; if not, nothing counts as inside.
    """

    pixel: Tensor
    inside: Tensor
    x: Tensor
    y: Tensor
    moves: Tensor
    finite: Tensor

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the share of each of the four."""
        left, top = 1 - self.x, 1 - self.y
        return left * top, self.x * top, left * self.y, self.x * self.y


def _axis(position: Tensor, size: int, border: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Split coordinates into the pixel before, the way from it, and whether they move."""
    position = torch.where(position.isfinite(), position, -2.0)
    moves = torch.ones_like(position, dtype=torch.bool)
    if border:
        moves = (position > 0) & (position < size - 1)
        position = position.clamp(0, size - 1)
    low = position.floor()
    if border:
        low = low.clamp(max=max(size - 2, 0))
    return low, position - low, moves


def _find_taps(flow: Tensor, offset: Sequence[float], border: bool) -> _Taps:
    h, w = flow.shape[2:]
    columns = torch.arange(w, dtype=flow.dtype, device=flow.device)
    rows = torch.arange(h, dtype=flow.dtype, device=flow.device)[:, None]
    at = columns + flow[:, 0] + offset[0], rows + flow[:, 1] + offset[1]
    (left, x, x_moves), (top, y, y_moves) = _axis(at[0], w, border), _axis(at[1], h, border)
    finite = at[0].isfinite() & at[1].isfinite()
    index, inside = [], []
    for down in (0, 1):
        for right in (0, 1):
            column, row = left + right, top + down
            inside.append(finite & (column >= 0) & (column < w) & (row >= 0) & (row < h))
            index.append(torch.where(inside[-1], row * w + column, 0).long())
    return _Taps(
        torch.stack(index).flatten(2),
        torch.stack(inside).flatten(2),
        x.flatten(1),
        y.flatten(1),
        torch.stack([x_moves, y_moves], dim=1).flatten(2),
        finite.flatten(1),
    )


def _gather(source: Tensor, taps: _Taps) -> list[Tensor]:
    """Return what is at each of the four pixels, 0 outside: [N, C, H * W]."""
    flat = source.flatten(2).to(taps.x.dtype)
    pairs = zip(taps.pixel, taps.inside, strict=True)
    return [
        torch.where(inside[:, None], flat.gather(2, index[:, None].expand_as(flat)), 0)
        for index, inside in pairs
    ]


def _scatter(values: Tensor, taps: _Taps) -> Tensor:
    """Add each pixel's values [N, C, H, W] to its four pixels; the sums have the same shape."""
    n, c, h, w = values.shape
    flat = values.flatten(2).to(taps.x.dtype).transpose(1, 2)  # [N, H * W, C]
    sums = flat.new_zeros(n * h * w, c)
    starts = torch.arange(n, device=values.device)[:, None] * (h * w)
    for index, inside, share in zip(taps.pixel, taps.inside, taps.weights(), strict=True):
        added = torch.where(inside[..., None], flat * share[..., None], 0)
        sums.index_add_(0, (starts + index).flatten(), added.flatten(0, 1))
    return sums.view(n, h, w, c).permute(0, 3, 1, 2).contiguous()


def _mix(corners: list[Tensor], taps: _Taps) -> Tensor:
    """Interpolate between the values at the four pixels."""
    shares = zip(corners, taps.weights(), strict=True)
    return sum((corner * share[:, None] for corner, share in shares), corners[0].new_zeros(()))


def _slopes(dots: list[Tensor], taps: _Taps) -> Tensor:
    """Return the derivative [N, 2, H * W] by the flow from one number per tap, [N, H * W]."""
    top, bottom, left, right = (
        dots[end] - dots[start] for start, end in ((0, 1), (2, 3), (0, 2), (1, 3))
    )
    by_x, by_y = top + taps.y * (bottom - top), left + taps.x * (right - left)
    return torch.where(taps.moves, torch.stack([by_x, by_y], dim=1), 0)


def warp_reference(mask: Tensor, flow: Tensor, offset: Sequence[float], border: bool) -> Tensor:
    """Gather from the four pixels around each point and interpolate."""
    check_tensors(mask, flow, None)
    check_finite(flow)
    taps = _find_taps(flow, offset, border)
    sampled = _mix(_gather(mask, taps), taps)
    sampled = torch.where(taps.finite[:, None], sampled, torch.nan)
    return sampled.view(mask.shape).to(mask.dtype)


def warp_backward_reference(
    grad_output: Tensor,
    mask: Tensor,
    flow: Tensor,
    offset: Sequence[float],
    border: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """Splat the gradient; multiply it with the slopes of the mask."""
    taps = _find_taps(flow, offset, border)
    grad_mask, grad_flow = mask.new_empty(0), flow.new_empty(0)
    if needs[0]:
        grad_mask = _scatter(grad_output, taps).to(mask.dtype)
    if needs[1]:
        grad = grad_output.flatten(2).to(flow.dtype)
        dots = [(corner * grad).sum(dim=1) for corner in _gather(mask, taps)]
        grad_flow = _slopes(dots, taps).view(flow.shape)
    return grad_mask, grad_flow


def splat_reference(
    mask: Tensor,
    flow: Tensor,
    weight: Tensor | None,
    eps: float | None,
    offset: Sequence[float],
    border: bool,
) -> tuple[Tensor, Tensor]:
    """Add to the four pixels around each point; divide by what lands there."""
    check_tensors(mask, flow, weight)
    check_finite(flow)
    taps = _find_taps(flow, offset, border)
    sums = _scatter(_weighted(mask.to(flow.dtype), weight), taps)
    if eps is None:
        return sums, flow.new_empty(0)
    covered = _scatter(_weighted(torch.ones_like(flow[:, :1]), weight), taps)
    return sums / torch.where(covered > eps, covered, eps), covered


def _weighted(values: Tensor, weight: Tensor | None) -> Tensor:
    return values if weight is None else values * weight


def splat_backward_reference(
    grad_sums: Tensor,
    grad_covered: Tensor | None,
    mask: Tensor,
    flow: Tensor,
    weight: Tensor | None,
    offset: Sequence[float],
    border: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample the gradient; multiply its slopes with what was added up."""
    taps = _find_taps(flow, offset, border)
    values, grad = mask.to(flow.dtype), grad_sums.to(flow.dtype)
    if grad_covered is not None:
        values = torch.cat([values, torch.ones_like(flow[:, :1])], dim=1)
        grad = torch.cat([grad, grad_covered], dim=1)
    corners = _gather(grad, taps)
    sampled = _mix(corners, taps)
    grad_mask, grad_flow, grad_weight = mask.new_empty(0), flow.new_empty(0), flow.new_empty(0)
    if needs[0]:
        by_mask = sampled[:, : mask.shape[1]].reshape(mask.shape)
        grad_mask = _weighted(by_mask, weight).to(mask.dtype)
    if needs[1]:
        added = _weighted(values, weight).flatten(2)
        dots = [(corner * added).sum(dim=1) for corner in corners]
        grad_flow = _slopes(dots, taps).view(flow.shape)
    if needs[2]:
        grad_weight = (sampled * values.flatten(2)).sum(dim=1).view_as(flow[:, :1])
    return grad_mask, grad_flow, grad_weight
