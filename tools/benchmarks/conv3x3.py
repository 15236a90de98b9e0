"""Cases of 3x3 convolutions: maps of SAMH and of the pixel decoder at stride 4.

128 channels of 15 frames of 96x160 pixels are a training sample of the aquarium's table, 256
channels of 3 frames of 240x432 a clip of the published width.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.ops import conv3x3
from tools.benchmarks.registry import Case, Peer

SIZES = {"15x24x40_c128": (15, 128, 24, 40), "3x60x108_c256": (3, 256, 60, 108)}


class Inputs(NamedTuple):
    """Arguments of one call; ``grad`` is the gradient of the output."""

    maps: Tensor
    weight: Tensor
    bias: Tensor
    grad: Tensor


def make(
    size: tuple[int, int, int, int], backward: bool, device: torch.device, dtype: torch.dtype
) -> Inputs:
    """Draw the arguments of a case."""
    generator = torch.Generator().manual_seed(0)
    channels = size[1]
    sizes = (size, (channels, channels, 3, 3), (channels,), size)
    drawn = [torch.randn(s, generator=generator).to(device, dtype) for s in sizes]
    for tensor in drawn[:3]:
        tensor.requires_grad_(backward)
    return Inputs(drawn[0], drawn[1], drawn[2], drawn[3])


def ours(x: Inputs) -> Tensor:
    """Convolve with amodal2's op."""
    return conv3x3(x.maps, x.weight, x.bias)


def stock(x: Inputs) -> Tensor:
    """Convolve with PyTorch."""
    return F.conv2d(x.maps, x.weight, x.bias, padding=1)


def stock_channels_last(x: Inputs) -> Tensor:
    """Convolve with PyTorch, channels last in memory."""
    last = (t.to(memory_format=torch.channels_last) for t in (x.maps, x.weight))
    return F.conv2d(*last, x.bias, padding=1)


def differentiate(function, x: Inputs) -> tuple[Tensor, ...]:
    """Return the output and the gradients in maps, weight and bias."""
    output = function(x)
    return output, *torch.autograd.grad(output, (x.maps, x.weight, x.bias), x.grad)


def cases() -> list[Case]:
    """List the cases: both sizes, forward and forward with backward."""
    found = []
    for label, size in SIZES.items():
        for kind in ("fwd", "fwdbwd"):
            backward = kind == "fwdbwd"
            wrap = partial(partial, differentiate) if backward else (lambda f: f)
            pixels, channels = size[0] * size[2] * size[3], size[1]
            found.append(
                Case(
                    op="conv3x3",
                    name=f"{kind}_{label}",
                    make=partial(make, size, backward),
                    ours=wrap(ours),
                    peers=[
                        Peer("F.conv2d", wrap(stock), ("F.conv2d",)),
                        Peer(
                            "F.conv2d, channels last",
                            wrap(stock_channels_last),
                            ("Tensor.to", "F.conv2d"),
                        ),
                    ],
                    dtypes=(torch.float32,),
                    tolerance=1e-4,
                    bytes=4.0 * (4 if backward else 2) * pixels * channels,
                )
            )
    return found
