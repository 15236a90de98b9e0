"""3x3 convolutions of maps at full resolution, as in SAMH (A2VIS, Sec. 3.5) and pixel decoders.

The CPU kernel takes Winograd's way, F(4x4, 3x3) (Lavin and Gray, Fast Algorithms for Convolutional
Neural Networks, 2016), with a quarter of the multiplications; PyTorch's convolution, the reference
here, multiplies directly on a CPU.

Letters: N images, C and K channels in and out, H W size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.ops._library import LIBRARY, refuse_double_backward

_FEWEST_CHANNELS = 32  # of both kinds; with fewer the transforms cost more than they save

LIBRARY.define("conv3x3(Tensor input, Tensor weight, Tensor? bias) -> Tensor")
LIBRARY.define(
    "_conv3x3_backward(Tensor grad_output, Tensor input, Tensor weight, bool[3] needs)"
    " -> (Tensor, Tensor, Tensor)"
)


def conv3x3(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with kernels of 3x3, stride 1 and a margin of one pixel of zeros.

    Equals ``torch.nn.functional.conv2d(input, weight, bias, padding=1)`` but for rounding: the
    largest error in float32 is about 1e-5 of the largest output, ten times that of a direct sum.

    Args:
        input (Tensor[N, C, H, W]): any floating type.
        weight (Tensor[K, C, 3, 3]): same type and device.
        bias (Tensor[K] | None): same type and device.

    Returns:
        Tensor[N, K, H, W]: type and device of ``input`` (of autocast, if that is on). On a CPU in
        float32 or float64 with at least 32 channels in and out its channels come last in memory.

    Raises:
        TypeError: if the types differ.
        ValueError: if the shapes do not fit together or the devices differ.

    Note:
        Differentiable once; a double backward raises RuntimeError on a CPU. N = 0 is legal, and so
        are non-contiguous tensors; those whose channels come last are not copied.
        The CPU kernel is deterministic, and needs 36 numbers per channel for 240 tiles of 4x4
        pixels beside its input and output. GPUs, other types, fewer channels and autocast take
        PyTorch's convolution.
    """
    if torch.is_autocast_enabled(input.device.type):  # types may differ
        return F.conv2d(input, weight, bias, padding=1)
    _check(input, weight, bias)
    ours = input.device.type == "cpu" and input.dtype in (torch.float32, torch.float64)
    if not ours or min(weight.shape[:2]) < _FEWEST_CHANNELS:
        return F.conv2d(input, weight, bias, padding=1)
    return torch.ops.amodal2.conv3x3(input, weight, bias)


def _check(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise ValueError or TypeError unless the arguments of the op fit together."""
    if input.dim() != 4:
        raise ValueError(f"conv3x3: expected input [N, C, H, W], got {list(input.shape)}")
    channels = input.shape[1]
    if weight.dim() != 4 or weight.shape[1:] != (channels, 3, 3):
        got = list(weight.shape)
        raise ValueError(f"conv3x3: expected weight [K, {channels}, 3, 3] (C of input), got {got}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"conv3x3: expected bias [{len(weight)}] (K of weight), got {list(bias.shape)}"
        )
    for label, tensor in (("weight", weight), ("bias", bias)):
        if tensor is None:
            continue
        if tensor.device != input.device:
            raise ValueError(
                f"conv3x3: expected {label} on {input.device} like input, got {tensor.device}"
            )
        if tensor.dtype != input.dtype:
            raise TypeError(
                f"conv3x3: expected {label} of type {input.dtype} like input, got {tensor.dtype}"
            )


@torch.library.impl(LIBRARY, "conv3x3", "CompositeExplicitAutograd")
def _reference(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve by PyTorch."""
    _check(input, weight, bias)
    output = torch.ops.aten.convolution(input, weight, bias, *_GEOMETRY)
    return output.contiguous(memory_format=torch.channels_last)


_GEOMETRY: tuple[Any, ...] = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)


@torch.library.impl(LIBRARY, "_conv3x3_backward", "CompositeExplicitAutograd")
def _backward_reference(
    grad_output: Tensor, input: Tensor, weight: Tensor, needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate ``_reference``."""
    grads = torch.ops.aten.convolution_backward(
        grad_output, input, weight, [len(weight)], *_GEOMETRY, list(needs)
    )
    by_input, by_weight, by_bias = (input.new_empty(0) if x is None else x for x in grads)
    if needs[0]:
        by_input = by_input.contiguous(memory_format=torch.channels_last)
    return by_input, by_weight.contiguous(), by_bias


@torch.library.register_fake("amodal2::conv3x3", lib=LIBRARY)
def _fake(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    _check(input, weight, bias)
    size = (input.shape[0], weight.shape[0], *input.shape[2:])
    return torch.empty(
        size, dtype=input.dtype, device=input.device, memory_format=torch.channels_last
    )


@torch.library.register_fake("amodal2::_conv3x3_backward", lib=LIBRARY)
def _backward_fake(
    grad_output: Tensor, input: Tensor, weight: Tensor, needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    by_input = input.new_empty(0)
    if needs[0]:
        by_input = torch.empty_like(input, memory_format=torch.channels_last)
    by_weight = weight.new_empty(weight.shape if needs[1] else 0)
    return by_input, by_weight, weight.new_empty(len(weight) if needs[2] else 0)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, _ = inputs
    ctx.save_for_backward(input, weight)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    needs = list(ctx.needs_input_grad)
    grads = torch.ops.amodal2._conv3x3_backward(grad_output, *ctx.saved_tensors, needs)
    return tuple(grad if need else None for grad, need in zip(grads, needs, strict=True))


torch.library.register_autograd(
    "amodal2::conv3x3", _backward, setup_context=_setup_context, lib=LIBRARY
)
refuse_double_backward("conv3x3", "_conv3x3_backward")
