"""Arguments for multi-scale deformable attention, and what it must return, as plain loops."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# (batch, queries, heads, depth, points, levels)
CASES = {
    "two-levels": (2, 3, 2, 4, 2, [(2, 3), (4, 5)]),
    "one-pixel-levels": (1, 2, 3, 5, 3, [(1, 1), (1, 4), (3, 1)]),
    "depth-16": (1, 4, 8, 16, 4, [(3, 4), (5, 6), (2, 2)]),
    "depth-32": (2, 3, 2, 32, 4, [(4, 4)]),
    "depth-17": (1, 3, 2, 17, 1, [(4, 3), (2, 2)]),
    "depth-70": (1, 2, 1, 70, 5, [(3, 3)]),
    "many-samples": (1, 2, 3, 3, 7, [(3, 3), (2, 2), (4, 4)]),
}


def make_case(
    name: str, dtype: torch.dtype = torch.float64, device: str = "cpu"
) -> tuple[Tensor, list, Tensor, Tensor]:
    """Draw arguments; about a third of the locations lie outside, none close to a kink."""
    batch, queries, heads, depth, points, levels = CASES[name]
    sizes = torch.tensor([(w, h) for h, w in levels], dtype=torch.float64)
    value = torch.randn(batch, sum(h * w for h, w in levels), heads, depth, dtype=torch.float64)
    shape = (batch, queries, heads, len(levels), points, 2)
    pixels = torch.rand(shape, dtype=torch.float64) * (sizes[:, None] + 3) - 2
    kinks = pixels.floor() + (pixels % 1).clamp(0.05, 0.95)
    locations = (kinks + 0.5) / sizes[:, None]
    weights = torch.rand(shape[:-1], dtype=torch.float64)
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    there = {"device": device, "dtype": accumulate}
    return value.to(device, dtype), levels, locations.to(**there), weights.to(**there)


def loop_oracle(value: Tensor, levels: list, locations: Tensor, weights: Tensor) -> Tensor:
    """Apply the definition pixel by pixel."""
    batch, queries, heads, _, points, _ = locations.shape
    output = value.new_zeros(batch, queries, heads, value.shape[-1])
    for b in range(batch):
        for q in range(queries):
            for m in range(heads):
                start = 0
                for level, (height, width) in enumerate(levels):
                    for p in range(points):
                        x = locations[b, q, m, level, p, 0].item() * width - 0.5
                        y = locations[b, q, m, level, p, 1].item() * height - 0.5
                        for row in (math.floor(y), math.floor(y) + 1):
                            for column in (math.floor(x), math.floor(x) + 1):
                                if 0 <= row < height and 0 <= column < width:
                                    share = (1 - abs(x - column)) * (1 - abs(y - row))
                                    pixel = value[b, start + row * width + column, m]
                                    output[b, q, m] += weights[b, q, m, level, p] * share * pixel
                    start += height * width
    return output.flatten(2)


def grid_oracle(value, levels, locations, weights) -> Tensor:
    """Sum hat functions over all pixels: no floor, no index, so autograd differentiates it."""
    output, start = 0, 0
    for level, (height, width) in enumerate(levels):
        x = locations[:, :, :, level, :, 0, None] * width - 0.5
        y = locations[:, :, :, level, :, 1, None] * height - 0.5
        columns = torch.arange(width, device=x.device)
        rows = torch.arange(height, device=y.device)
        hat_x = (1 - (x - columns).abs()).clamp(min=0)
        hat_y = (1 - (y - rows).abs()).clamp(min=0)
        pixels = value[:, start : start + height * width].unflatten(1, (height, width))
        share = weights[:, :, :, level]
        output = output + torch.einsum("bqmp,bqmpy,bqmpx,byxmd->bqmd", share, hat_y, hat_x, pixels)
        start += height * width
    return output.flatten(2)


def gradients(function, value, levels, locations, weights) -> list[Tensor]:
    """Differentiate a weighted sum of the output in the three tensors."""
    inputs = [x.detach().clone().requires_grad_() for x in (value, locations, weights)]
    output = function(inputs[0], levels, inputs[1], inputs[2])
    (output * mixture_of(output)).sum().backward()
    return [x.grad for x in inputs]


def mixture_of(output: Tensor) -> Tensor:
    mixture = torch.linspace(-1, 1, output.numel(), dtype=output.dtype)
    return mixture.view_as(output).to(output.device)
