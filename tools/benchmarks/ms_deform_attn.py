"""Cases of deformable attention: encoder layers, one query per pixel of all levels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.ops import ms_deform_attn
from tools.benchmarks.registry import Case, Peer

# (batch, levels, heads, channels per head, points); 384x640 is one frame of a video in A2VIS at the
# width of its paper, the others batches of the sizes that the quick models train with.
SHAPES = {
    "384x640": (1, [(12, 20), (24, 40), (48, 80)], 8, 32, 4),
    "160x256_b8": (8, [(5, 8), (10, 16), (20, 32)], 8, 16, 4),
    "160x256_b32": (32, [(5, 8), (10, 16), (20, 32)], 8, 16, 4),
}
SPREAD = 3.0  # standard deviation of the points around their pixel, in pixels of their level


@dataclass
class Inputs:
    """Arguments of the op and what its output is multiplied with to get gradients."""

    value: Tensor
    levels: list[tuple[int, int]]
    locations: Tensor
    weights: Tensor
    mixture: Tensor


def make(shape: tuple, device: torch.device, dtype: torch.dtype) -> Inputs:
    """Draw values, weights that sum to 1, and locations around the centre of the query's pixel."""
    batch, levels, heads, depth, points = shape
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    grids = [
        torch.stack(
            torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij"),
            dim=-1,
        ).view(-1, 2)
        for h, w in levels
    ]
    centres = torch.cat(grids).flip(-1)  # [Q, 2] (x, y)
    samples = (batch, len(centres), heads, len(levels), points)
    sizes = torch.tensor([(w, h) for h, w in levels], dtype=torch.float32)
    locations = centres[:, None, None, None] + SPREAD * draw(*samples, 2) / sizes[:, None]
    weights = draw(samples).flatten(-2).softmax(-1).view(samples)
    value = draw(batch, len(centres), heads, depth)
    mixture = draw(batch, len(centres), heads * depth)
    value, mixture = value.to(device, dtype), mixture.to(device, dtype)
    locations, weights = locations.to(device), weights.to(device)
    return Inputs(value, levels, locations, weights, mixture)


def stock(
    value: Tensor, levels: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Sample every level with ``grid_sample``; autograd differentiates it.

    It samples in float32: bfloat16 cannot tell the pixels of a level apart (and on the CPU of torch
    2.14.1 gives NaN for some finite inputs).
    """
    batch, queries, heads = weights.shape[:3]
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    sampled = []
    maps = value.float().split([h * w for h, w in levels], dim=1)
    for index, (pixels, (height, width)) in enumerate(zip(maps, levels, strict=True)):
        image = pixels.permute(0, 2, 3, 1).reshape(batch * heads, -1, height, width)
        sampled.append(F.grid_sample(image, grids[:, :, index], align_corners=False))
    share = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    output = (torch.cat(sampled, dim=-1) * share).sum(-1)  # [B * M, D, Q]
    return output.view(batch, -1, queries).transpose(1, 2).to(value.dtype)


def forward(function, inputs: Inputs) -> Tensor:
    """Run one of the two functions above or the op."""
    with torch.no_grad():
        return function(inputs.value, inputs.levels, inputs.locations, inputs.weights)


def forward_backward(function, inputs: Inputs) -> tuple[Tensor, ...]:
    """Run it and differentiate it in all three tensors; return output and gradients."""
    leaves = [x.detach().requires_grad_() for x in (inputs.value, inputs.locations, inputs.weights)]
    output = function(leaves[0], inputs.levels, *leaves[1:])
    return output.detach(), *torch.autograd.grad(output, leaves, inputs.mixture)


def count(shape: tuple, size: int, backward: bool) -> tuple[float, float]:
    """Count flops (two per channel, corner and sample) and bytes (each tensor once)."""
    batch, levels, heads, depth, points = shape
    queries = sum(h * w for h, w in levels)
    items = batch * queries * heads
    samples = items * len(levels) * points
    values = items * depth * size
    # Backward: values and gradients are multiplied, and gradients added, at each corner.
    flops = 2 * 4 * samples * depth
    forward_bytes = 2 * values + 3 * samples * 4
    if not backward:
        return flops, forward_bytes
    # It reads values, gradients and samples again and writes the gradients of values and samples.
    return 3 * flops, forward_bytes + 3 * values + 6 * samples * 4


def cases() -> list[Case]:
    """List forward and forward with backward, for values of four and of two bytes."""
    found = []
    for name, shape in SHAPES.items():
        for dtype, suffix in ((torch.float32, ""), (torch.bfloat16, "_bf16")):
            for prefix, run in (("fwd", forward), ("fwdbwd", forward_backward)):
                flops, size = count(shape, dtype.itemsize, run is forward_backward)
                peer = Peer("grid_sample", partial(run, stock), calls=("F.grid_sample",))
                found.append(
                    Case(
                        op="ms_deform_attn",
                        name=f"{prefix}_{name}{suffix}",
                        make=partial(make, shape),
                        ours=partial(run, ms_deform_attn),
                        peers=[peer],
                        flops=flops,
                        bytes=size,
                        tolerance=1e-4 if dtype == torch.float32 else 1e-2,
                        dtypes=(dtype,),
                    )
                )
    return found
