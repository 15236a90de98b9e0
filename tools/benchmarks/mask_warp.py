"""Cases of warping and splatting masks, with a flow as of real motion and flow that is noise."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.ops import mask_warp
from tools.benchmarks.registry import Case, Peer

SIZES = (
    (1, 1, 240, 432),
    (4, 1, 240, 432),
    (1, 20, 240, 432),
    (1, 1, 480, 864),
    (4, 20, 480, 864),
)
TAP_FLOPS = 8
"""Per pixel and channel: one multiplication and addition for each of the four pixels around."""


class Inputs(NamedTuple):
    """Masks, flow, and the gradient of the output where the case goes backward."""

    mask: Tensor
    flow: Tensor
    grad: Tensor | None


def _moving_pieces(n: int, h: int, w: int, generator: torch.Generator) -> Tensor:
    """Cut the image in 8 pieces, as by objects, that move by 4 pixels, turn and grow by 2 %."""
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place = torch.stack([columns, rows], dim=-1).float()  # [H, W, 2]
    flows = []
    for _ in range(n):
        centres = torch.rand(8, 2, generator=generator) * torch.tensor([w, h])
        piece = (place[..., None, :] - centres).norm(dim=-1).argmin(dim=-1)  # [H, W]
        shift = 4 * torch.randn(8, 2, generator=generator)
        bend = 0.02 * torch.randn(8, 2, 2, generator=generator)
        turned = (bend[piece] @ (place - centres[piece])[..., None])[..., 0]
        flows.append(shift[piece] + turned)
    return torch.stack(flows).permute(0, 3, 1, 2).contiguous()


def make_inputs(
    size: tuple[int, int, int, int],
    kind: str,
    backward: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> Inputs:
    """Draw soft masks and a flow of some pixels, of "moving" pieces or "noise"."""
    n, _, h, w = size
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(size, generator=generator)
    if kind == "moving":
        flow = _moving_pieces(n, h, w, generator)
    else:
        flow = 4 * torch.randn(n, 2, h, w, generator=generator)
    mask, flow = mask.to(device, dtype), flow.to(device)
    grad = torch.randn(size, generator=generator).to(device, dtype) if backward else None
    return Inputs(mask.requires_grad_(backward), flow.requires_grad_(backward), grad)


def _positions(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each pixel's point lies, x and y."""
    _, _, h, w = flow.shape
    x = flow[:, 0] + torch.arange(w, dtype=flow.dtype, device=flow.device)
    y = flow[:, 1] + torch.arange(h, dtype=flow.dtype, device=flow.device)[:, None]
    return x, y


def grid_sample_warp(mask: Tensor, flow: Tensor) -> Tensor:
    """Build the sampling grid and call ``grid_sample``."""
    _, _, h, w = mask.shape
    x, y = _positions(flow)
    grid = torch.stack([x * (2 / (w - 1)) - 1, y * (2 / (h - 1)) - 1], dim=-1)
    return F.grid_sample(mask, grid.to(mask.dtype), align_corners=True)


def _splat_taps(flow: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the index into the batch's pixels and the share of each of the four taps."""
    n, _, h, w = flow.shape
    x, y = _positions(flow)
    left, top = x.floor(), y.floor()
    starts = torch.arange(n, device=flow.device)[:, None, None] * (h * w)
    taps = []
    for row, share_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, share_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
            index = starts + (row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).long()
            taps.append((index.flatten(), (share_x * share_y * inside).flatten()))
    return taps


def index_add_splat(mask: Tensor, flow: Tensor) -> Tensor:
    """Add to rows of channels with ``index_add``."""
    n, c, h, w = mask.shape
    rows = mask.permute(0, 2, 3, 1).reshape(-1, c)
    sums = torch.zeros_like(rows)
    for index, share in _splat_taps(flow):
        sums = sums.index_add(0, index, rows * share[:, None].to(mask.dtype))
    return sums.view(n, h, w, c).permute(0, 3, 1, 2)


def scatter_add_splat(mask: Tensor, flow: Tensor) -> Tensor:
    """Add to planes of pixels with ``scatter_add``."""
    n, c, h, w = mask.shape
    planes = mask.transpose(0, 1).reshape(c, -1)
    sums = torch.zeros_like(planes)
    for index, share in _splat_taps(flow):
        sums = sums.scatter_add(1, index.expand(c, -1), planes * share.to(mask.dtype))
    return sums.view(c, n, h, w).transpose(0, 1)


def _average(splat):
    """Divide what a splat adds up by what it adds up for a mask of ones."""

    def run(mask: Tensor, flow: Tensor) -> Tensor:
        sums = splat(torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1), flow)
        return sums[:, :-1] / sums[:, -1:].clamp(min=1e-6)

    return run


def _caller(function, options: dict | None = None):
    """Run a way forward and, where there is a gradient, backward; return what it gives."""

    def run(inputs: Inputs):
        if inputs.grad is None:
            with torch.no_grad():
                return function(inputs.mask, inputs.flow, **(options or {}))
        output = function(inputs.mask, inputs.flow, **(options or {}))
        return torch.autograd.grad(output, (inputs.mask, inputs.flow), inputs.grad)

    return run


def _case(
    size: tuple[int, int, int, int], kind: str, name: str, backward: bool, peer: str | None = None
) -> Case:
    """Describe a case; ``peer`` names a splat other than with ``index_add``."""
    n, c, h, w = size
    op, options, call = "mask_splat", {"mode": "splat"}, peer or "index_add"
    way = scatter_add_splat if peer else index_add_splat
    if name == "warp":
        op, options, call, way = "mask_warp", {}, "grid_sample", grid_sample_warp
    elif name == "average":
        options, way = {"mode": "splat", "normalize": "average"}, _average(way)
    passes = 3 if backward else 1  # backward once more for the mask and once for the flow
    suffix = f"_{peer}" if peer else ""
    return Case(
        op=op,
        name=f"{'fwdbwd' if backward else 'fwd'}_{name}_{kind}_n{n}_c{c}_{h}x{w}{suffix}",
        make=lambda device, dtype: make_inputs(size, kind, backward, device, dtype),
        ours=_caller(mask_warp, options),
        peers=[Peer(call, _caller(way), (call,))],
        flops=float(TAP_FLOPS * passes * n * c * h * w),
        bytes=4.0 * passes * n * h * w * (2 * c + 2),
        # The peer's grid is rounded differently, which moves points by some 1e-5 pixels.
        tolerance=1e-3 if not backward else None,
    )


def cases() -> list[Case]:
    """List forward cases of all sizes and both kinds of flow, and forward with backward of some.

    Splats are compared with ``index_add``; once more with ``scatter_add``, which is faster for many
    channels.
    """
    names = ("warp", "splat", "average")
    found = [
        _case(size, kind, name, False)
        for name in names
        for size in SIZES
        for kind in ("moving", "noise")
    ]
    found += [_case(size, "moving", name, True) for name in names for size in (SIZES[1], SIZES[2])]
    return found + [
        _case(SIZES[2], kind, name, False, "scatter_add")
        for name in names[1:]
        for kind in ("moving", "noise")
    ]
