"""Cases of masked attention: 100 queries, 8 heads of 32 channels, blobs as masks.

Q = 100 queries attend to S = 18 000 or 77 760 keys (3 frames of 50 x 120 or 120 x 216), the latter
SAMH's size for 480x864 pixels. A mask is a number of random ellipses and boxes per frame that cover
the share of pixels that the name gives: d05 is 5 per cent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.ops import masked_attention
from tools.benchmarks.registry import Case, Peer

QUERIES, HEADS, DEPTH, FRAMES = 100, 8, 32, 3
SIZES = {18_000: (50, 120), 77_760: (120, 216)}
DENSITIES = {"d05": 0.05, "d20": 0.2, "d60": 0.6, "d100": 1.0}


class Inputs(NamedTuple):
    """Arguments of one call; ``grad`` is the gradient of the output [B, Q, M, D]."""

    query: Tensor
    key: Tensor
    value: Tensor
    allow: Tensor
    grad: Tensor


def draw_masks(size: tuple[int, int], density: float, generator: torch.Generator) -> Tensor:
    """Draw [Q, T*h*w] bool masks, each frame covered by blobs up to ``density``."""
    height, width = size
    if density >= 1:
        return torch.ones(QUERIES, FRAMES * height * width, dtype=torch.bool)
    y = torch.arange(height).view(-1, 1) + 0.5
    x = torch.arange(width) + 0.5
    masks = torch.zeros(QUERIES, FRAMES, height, width, dtype=torch.bool)
    for mask in masks.flatten(0, 1):
        while (missing := density * height * width - int(mask.sum())) > 0:
            area, aspect, kind, at_y, at_x = torch.rand(5, generator=generator).tolist()
            area = min(missing, (0.3 + area) * density * height * width)
            side = (area / 4) ** 0.5  # half the side of a square
            dy = (y - at_y * height).abs() / (side * (0.5 + aspect))
            dx = (x - at_x * width).abs() / (side / (0.5 + aspect))
            mask |= (dy.square() + dx.square() < 1.27) if kind < 0.5 else (dy < 1) & (dx < 1)
    return masks.flatten(1)


def make(
    keys: int, density: float, backward: bool, device: torch.device, dtype: torch.dtype
) -> Inputs:
    """Draw the arguments of a case; the projections' outputs are dense [B, S, M * D]."""
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(1, n, HEADS, DEPTH, generator=generator).to(device, dtype)
        for n in (QUERIES, keys, keys)
    ]
    for tensor in tensors:
        tensor.requires_grad_(backward)
    allow = draw_masks(SIZES[keys], density, generator)[None].to(device)
    grad = torch.randn(tensors[0].shape, generator=generator).to(tensors[0])
    return Inputs(*tensors, allow, grad)


def ours(x: Inputs) -> Tensor:
    """Attend with amodal2's op."""
    return masked_attention(x.query, x.key, x.value, x.allow)


def sdpa(x: Inputs) -> Tensor:
    """Attend with the stock function, one bool mask broadcast over the heads."""
    heads = (t.transpose(1, 2) for t in (x.query, x.key, x.value))
    return F.scaled_dot_product_attention(*heads, attn_mask=x.allow[:, None]).transpose(1, 2)


def sdpa_per_head(x: Inputs) -> Tensor:
    """Attend as Mask2Former calls ``nn.MultiheadAttention``, without its projections.

    The mask is copied per head and inverted, the module turns it into floats; with its projections
    the comparison would be unequal.
    """
    copies = (~x.allow).unsqueeze(1).repeat(1, HEADS, 1, 1)
    bias = torch.zeros_like(copies, dtype=x.query.dtype).masked_fill_(copies, float("-inf"))
    heads = (t.transpose(1, 2) for t in (x.query, x.key, x.value))
    return F.scaled_dot_product_attention(*heads, attn_mask=bias).transpose(1, 2)


def differentiate(function: Callable[[Inputs], Tensor], x: Inputs) -> tuple[Tensor, ...]:
    """Return the output and the gradients in query, key and value."""
    output = function(x)
    return output, *torch.autograd.grad(output, (x.query, x.key, x.value), x.grad)


def cases() -> list[Case]:
    """List the cases: both sizes, four densities, forward and forward with backward."""
    stock = {
        "SDPA, bool mask": (sdpa, ("F.scaled_dot_product_attention",)),
        "nn.MultiheadAttention's core, mask per head": (
            sdpa_per_head,
            ("Tensor.repeat", "Tensor.masked_fill_", "F.scaled_dot_product_attention"),
        ),
    }
    found = []
    for keys in SIZES:
        for label, density in DENSITIES.items():
            for kind, passes in (("fwd", 2), ("fwdbwd", 7)):  # products per allowed pair
                backward = kind == "fwdbwd"
                wrap = partial(partial, differentiate) if backward else (lambda f: f)
                numbers = (2 if not backward else 6) * (QUERIES + keys) * HEADS * DEPTH
                found.append(
                    Case(
                        op="masked_attention",
                        name=f"{kind}_q{QUERIES}_k{keys}_{label}",
                        make=partial(make, keys, density, backward),
                        ours=wrap(ours),
                        peers=[
                            Peer(name, wrap(run), calls) for name, (run, calls) in stock.items()
                        ],
                        flops=2.0 * passes * density * QUERIES * keys * HEADS * DEPTH,
                        bytes=4.0 * numbers + QUERIES * keys,
                    )
                )
    return found
