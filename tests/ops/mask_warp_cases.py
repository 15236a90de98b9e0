"""Inputs and oracles for the tests of warping and splatting masks."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

# (masks, channels, height, width), spread of the flow in pixels
SHAPES = {
    "one-pixel": ((1, 1, 1, 1), 0.6),
    "one-row": ((2, 2, 1, 7), 1.5),
    "one-column": ((1, 2, 6, 1), 1.5),
    "odd": ((2, 3, 5, 7), 2.0),
    "far": ((1, 1, 6, 5), 20.0),
    "two-chunks": ((1, 2, 13, 41), 0.7),
}
# Options of the op, and whether it takes a weight.
MODES = {
    "backward-zeros": ({"mode": "backward"}, False),
    "backward-border": ({"mode": "backward", "padding": "border", "offset": (-0.5, 0.25)}, False),
    "splat-zeros": ({"mode": "splat"}, False),
    "splat-border": ({"mode": "splat", "padding": "border", "offset": 0.5}, False),
    "splat-weighted": ({"mode": "splat", "offset": (0.0, -0.5)}, True),
    "average": ({"mode": "splat", "normalize": "average"}, False),
    "average-border": ({"mode": "splat", "normalize": "average", "padding": "border"}, False),
    "average-weighted": ({"mode": "splat", "normalize": "average", "eps": 0.05}, True),
}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def make_case(
    shape: str, mode: str, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, dict]:
    """Draw mask, flow and options; no point lies close to a kink, with any of the offsets."""
    (n, c, h, w), spread = SHAPES[shape]
    options, weighted = MODES[mode]
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    mask = torch.randn(n, c, h, w, dtype=torch.float64).to(dtype)
    flow = spread * torch.randn(n, 2, h, w, dtype=torch.float64)
    flow = (flow * 4).floor() / 4 + 0.05 + 0.15 * torch.rand_like(flow)
    if weighted:
        options = {**options, "weight": torch.rand(n, h, w, dtype=torch.float64).to(accumulate)}
    return mask, flow.to(accumulate), options


def make_smooth_case(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Draw masks and a flow with long runs of points side by side, and breaks between them."""
    mask = torch.rand(2, 3, 19, 83, dtype=torch.float64).to(dtype)
    flow = torch.full((2, 2, 19, 83), 0.3, dtype=torch.float64)
    flow[0, 0, :, 40:] = -2.6
    flow[1, 0] += torch.linspace(0, 5, 83)
    flow[1, 1] += torch.linspace(0, -3, 83)
    return mask, flow.to(torch.float64 if dtype == torch.float64 else torch.float32)


def _taps(flow: Tensor, n: int, row: int, column: int, options: dict) -> list:
    """List (row, column, share) of the pixels that the point of a pixel is between."""
    height, width = flow.shape[2:]
    offset = options.get("offset", 0.0)
    offset_x, offset_y = offset if isinstance(offset, tuple) else (offset, offset)
    x = column + flow[n, 0, row, column].item() + offset_x
    y = row + flow[n, 1, row, column].item() + offset_y
    if options.get("padding") == "border":
        x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    taps = []
    for r in (math.floor(y), math.floor(y) + 1):
        for c in (math.floor(x), math.floor(x) + 1):
            if 0 <= r < height and 0 <= c < width:
                taps.append((r, c, (1 - abs(x - c)) * (1 - abs(y - r))))
    return taps


def loop_oracle(mask: Tensor, flow: Tensor, options: dict) -> Tensor:
    """Apply the definition pixel by pixel."""
    mask, weight = mask.double(), options.get("weight")
    output, covered = torch.zeros_like(mask), torch.zeros_like(mask[:, 0])
    for n, r, c in itertools.product(*(range(mask.shape[axis]) for axis in (0, 2, 3))):
        for row, column, share in _taps(flow, n, r, c, options):
            if options["mode"] == "backward":
                output[n, :, r, c] += share * mask[n, :, row, column]
                continue
            if weight is not None:
                share *= weight[n, r, c].item()
            output[n, :, row, column] += share * mask[n, :, r, c]
            covered[n, row, column] += share
    if options.get("normalize") == "average":
        output /= covered.clamp(min=options.get("eps", 1e-6))[:, None]
    return output


def hat_oracle(mask: Tensor, flow: Tensor, **options) -> Tensor:
    """Sum hat functions over all pairs of pixels: no floor, no index, so autograd may follow."""
    height, width = mask.shape[2:]
    offset = options.get("offset", 0.0)
    offset_x, offset_y = offset if isinstance(offset, tuple) else (offset, offset)
    columns, rows = torch.arange(width).to(flow), torch.arange(height).to(flow)
    x = columns + flow[:, 0] + offset_x
    y = rows[:, None] + flow[:, 1] + offset_y
    if options.get("padding") == "border":
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    hat_x = (1 - (x[..., None] - columns).abs()).clamp(min=0)  # [N, h, w, W]
    hat_y = (1 - (y[..., None] - rows).abs()).clamp(min=0)  # [N, h, w, H]
    if options["mode"] == "backward":
        return torch.einsum("nchw,nyxh,nyxw->ncyx", mask, hat_y, hat_x)
    weight = options.get("weight")
    weight = torch.ones_like(x) if weight is None else weight
    output = torch.einsum("ncyx,nyx,nyxh,nyxw->nchw", mask, weight, hat_y, hat_x)
    if options.get("normalize") == "average":
        covered = torch.einsum("nyx,nyxh,nyxw->nhw", weight, hat_y, hat_x)
        output = output / covered.clamp(min=options.get("eps", 1e-6))[:, None]
    return output


def mixture(output: Tensor) -> Tensor:
    return torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output).to(output)


def gradients(function, mask: Tensor, flow: Tensor, options: dict) -> dict[str, Tensor]:
    """Differentiate a weighted sum of the output by mask, flow and weight."""
    inputs = {"mask": mask, "flow": flow}
    if options.get("weight") is not None:
        inputs["weight"] = options["weight"]
    inputs = {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}
    output = function(**{**options, **inputs})
    (output * mixture(output)).sum().backward()
    return {name: x.grad for name, x in inputs.items()}


def assert_equal_gradients(found: dict, expected: dict, **tolerance) -> None:
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        torch.testing.assert_close(
            grad.cpu().double(),
            expected[name].double(),
            **tolerance,
            msg=lambda m, n=name: f"{n}: {m}",
        )
