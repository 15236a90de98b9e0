"""Bilinear warping of masks along a flow field, and its adjoint, bilinear splatting.

The motion of SaVos (Yao et al., Self-supervised Amodal Video Object Segmentation, 2022, Eq. 2). Two
linear maps serve both directions and both gradients: ``torch.ops.amodal2.mask_warp`` gathers from
the four pixels around a point, ``torch.ops.amodal2.mask_splat`` adds to them; each is the gradient
of the other in the mask. The latter divides the sums by what lands at each pixel if it gets an eps,
and then returns also that, for the gradient.

Letters: N masks or batch, C channels, H W image. p is a pixel, s(p) = p + flow[p] + offset the
point that it is connected with, b the bilinear hat max(0, 1 - |dx|) max(0, 1 - |dy|).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from amodal2.ops._library import LIBRARY, refuse_double_backward
from amodal2.ops._mask_warp_checks import accumulate_dtype, check_tensors
from amodal2.ops._mask_warp_reference import (
    splat_backward_reference,
    splat_reference,
    warp_backward_reference,
    warp_reference,
)

LIBRARY.define("mask_warp(Tensor mask, Tensor flow, float[2] offset, bool border) -> Tensor")
LIBRARY.define(
    "_mask_warp_backward(Tensor grad_output, Tensor mask, Tensor flow, float[2] offset, "
    "bool border, bool[2] needs) -> (Tensor, Tensor)"
)
LIBRARY.define(
    "mask_splat(Tensor mask, Tensor flow, Tensor? weight, float? eps, float[2] offset, "
    "bool border) -> (Tensor, Tensor)"
)
LIBRARY.define(
    "_mask_splat_backward(Tensor grad_sums, Tensor? grad_covered, Tensor mask, Tensor flow, "
    "Tensor? weight, float[2] offset, bool border, bool[3] needs) -> (Tensor, Tensor, Tensor)"
)
for _name, _reference in (
    ("mask_warp", warp_reference),
    ("_mask_warp_backward", warp_backward_reference),
    ("mask_splat", splat_reference),
    ("_mask_splat_backward", splat_backward_reference),
):
    LIBRARY.impl(_name, _reference, "CompositeExplicitAutograd")


def mask_warp(
    mask: Tensor,
    flow: Tensor,
    mode: str = "backward",
    padding: str = "zeros",
    offset: float | tuple[float, float] = 0.0,
    normalize: str = "none",
    eps: float = 1e-6,
    weight: Tensor | None = None,
) -> Tensor:
    """Move masks along a flow field, by backward sampling or by forward splatting.

    With s(p) = p + flow[p] + offset, in pixels with the origin at the centre of the top-left one:

    - "backward": out[p] = sum_q mask[q] b(q - s(p)), the flow points from the output to the input;
    - "splat": out[q] = sum_p weight[p] mask[p] b(q - s(p)), the flow points from the input to the
      output (SaVos, Eq. 2). With ``normalize="average"`` it is divided by
      max(sum_p weight[p] b(q - s(p)), eps), so that where nothing lands stays 0.

    For equal arguments the two are adjoint: sum(warp(m) * g) = sum(m * splat(g)). The official code
    of SaVos is "backward" with ``padding="border"``, ``offset=-0.5`` and the flow negated.

    Args:
        mask (Tensor[N, C, H, W]): float64, float32, bfloat16 or float16, any values.
        flow (Tensor[N, 2, H, W]): (x, y) in pixels, any floating type, finite.
        mode (str): "backward" or "splat".
        padding (str): "zeros" drops what lies outside the image, on either side of the map;
            "border" moves s(p) to the nearest point of [0, W - 1] x [0, H - 1] first.
        offset (float | tuple[float, float]): added to the flow, one number or (x, y).
        normalize (str): "none" or, for "splat", "average".
        eps (float): least divisor of the average.
        weight (Tensor[N, 1, H, W] | Tensor[N, H, W]): of the pixels in "splat", any floating type;
            None is 1 everywhere.

    Returns:
        Tensor[N, C, H, W]: contiguous, dtype and device of ``mask``.

    Raises:
        TypeError: if a tensor is not of a supported floating type.
        ValueError: if an option is unknown, shapes do not fit, devices differ, or, on the CPU, the
            flow is NaN or infinite somewhere.

    Note:
        Differentiable once in mask, flow and weight; a double backward raises RuntimeError. Where
        s(p) is on a pixel centre, the derivative by the flow is that to the right and below; where
        "border" has moved s(p) it is 0. Sums are kept in float32 for the short types, and flow and
        weight are converted to it, so mixed types are legal and autocast needs no care. N = 0,
        C = 0, H = 0 and W = 0 are legal, and so are non-contiguous tensors.

        On the CPU the result is deterministic, for any number of threads. On CUDA splatting, and so
        the gradient of warping, adds atomically; under ``torch.use_deterministic_algorithms(True)``
        the pixels are sorted by where they land instead, and every sum has its fixed order.

        A check of the flow would make CUDA wait for the host, so there a NaN or infinite flow gives
        NaN at its pixel in "backward", and in "splat" the pixel is dropped; it gets no gradient.
    """
    border, shift = _check_options(mode, padding, offset, normalize, eps, weight)
    accumulate = accumulate_dtype(mask.dtype)
    flow = _to_floating("flow", flow, accumulate)
    if mode == "backward":
        check_tensors(mask, flow, None)
        return torch.ops.amodal2.mask_warp(mask, flow, shift, border)
    if weight is not None:
        weight = _to_floating("weight", weight, accumulate)
        weight = weight.unsqueeze(1) if weight.dim() == 3 else weight
    check_tensors(mask, flow, weight)
    least = eps if normalize == "average" else None
    splatted, _ = torch.ops.amodal2.mask_splat(mask, flow, weight, least, shift, border)
    return splatted.to(mask.dtype)


def _check_options(
    mode: str,
    padding: str,
    offset: float | tuple[float, float],
    normalize: str,
    eps: float,
    weight: Tensor | None,
) -> tuple[bool, list[float]]:
    """Return whether the padding is "border", and the offset in x and y."""
    known: dict[str, tuple[str, ...]] = {
        "mode": ("backward", "splat"),
        "padding": ("zeros", "border"),
        "normalize": ("none", "average") if mode == "splat" else ("none",),
    }
    chosen = {"mode": mode, "padding": padding, "normalize": normalize}
    for name, values in known.items():
        if chosen[name] not in values:
            listed = " or ".join(f'"{value}"' for value in values)
            where = ' with mode "backward"' if name == "normalize" and mode == "backward" else ""
            raise ValueError(f"mask_warp: expected {name} {listed}{where}, got {chosen[name]!r}")
    if mode == "backward" and weight is not None:
        raise ValueError('mask_warp: expected weight None with mode "backward", got a tensor')
    shift = [float(x) for x in (offset if isinstance(offset, Sequence) else (offset, offset))]
    if len(shift) != 2 or not all(abs(x) < math.inf for x in shift):
        raise ValueError(f"mask_warp: expected offset one or two finite numbers, got {offset}")
    if not 0 < eps < math.inf:
        raise ValueError(f"mask_warp: expected eps finite and above 0, got {eps}")
    return padding == "border", shift


def _to_floating(label: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        raise TypeError(f"mask_warp: expected {label} of a floating type, got {tensor.dtype}")
    return tensor.to(dtype)


@torch.library.register_fake("amodal2::mask_warp", lib=LIBRARY)
def _warp_fake(mask: Tensor, flow: Tensor, offset: Sequence[float], border: bool) -> Tensor:
    check_tensors(mask, flow, None)
    return torch.empty_like(mask, memory_format=torch.contiguous_format)


def _gradient_like(tensor: Tensor, needed: bool) -> Tensor:
    """Return room for the gradient of a tensor, none if it is not needed."""
    if not needed:
        return tensor.new_empty(0)
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


@torch.library.register_fake("amodal2::_mask_warp_backward", lib=LIBRARY)
def _warp_backward_fake(
    grad_output: Tensor,
    mask: Tensor,
    flow: Tensor,
    offset: Sequence[float],
    border: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    return _gradient_like(mask, needs[0]), _gradient_like(flow, needs[1])


@torch.library.register_fake("amodal2::mask_splat", lib=LIBRARY)
def _splat_fake(
    mask: Tensor,
    flow: Tensor,
    weight: Tensor | None,
    eps: float | None,
    offset: Sequence[float],
    border: bool,
) -> tuple[Tensor, Tensor]:
    check_tensors(mask, flow, weight)
    n, _, h, w = mask.shape
    return flow.new_empty(mask.shape), flow.new_empty(0 if eps is None else (n, 1, h, w))


@torch.library.register_fake("amodal2::_mask_splat_backward", lib=LIBRARY)
def _splat_backward_fake(
    grad_sums: Tensor,
    grad_covered: Tensor | None,
    mask: Tensor,
    flow: Tensor,
    weight: Tensor | None,
    offset: Sequence[float],
    border: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    grad_weight = _gradient_like(flow[:, :1], needs[2])
    return _gradient_like(mask, needs[0]), _gradient_like(flow, needs[1]), grad_weight


def _warp_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    mask, flow, *ctx.options = inputs
    ctx.save_for_backward(mask, flow)


def _warp_backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    needs = list(ctx.needs_input_grad[:2])
    grads = torch.ops.amodal2._mask_warp_backward(
        grad_output, *ctx.saved_tensors, *ctx.options, needs
    )
    return *_needed(grads, needs), None, None


def _splat_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    mask, flow, weight, ctx.eps, *ctx.options = inputs
    averages = (None, None) if ctx.eps is None else output
    ctx.save_for_backward(mask, flow, weight, *averages)


def _splat_backward(
    ctx: Any, grad_output: Tensor, grad_covered: Tensor
) -> tuple[Tensor | None, ...]:
    mask, flow, weight, averages, covered = ctx.saved_tensors
    by_cover: Tensor | None = None
    if ctx.eps is not None:  # of sums / max(covered, eps)
        above = covered > ctx.eps
        grad_output = grad_output / torch.where(above, covered, ctx.eps)
        by_divisor = -(grad_output * averages).sum(dim=1, keepdim=True)
        by_cover = grad_covered + torch.where(above, by_divisor, 0)
    needs = list(ctx.needs_input_grad[:3])
    grads = torch.ops.amodal2._mask_splat_backward(
        grad_output, by_cover, mask, flow, weight, *ctx.options, needs
    )
    return *_needed(grads, needs), None, None, None


def _needed(grads: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
    return [grad if need else None for grad, need in zip(grads, needs, strict=True)]


torch.library.register_autograd(
    "amodal2::mask_warp", _warp_backward, setup_context=_warp_setup, lib=LIBRARY
)
torch.library.register_autograd(
    "amodal2::mask_splat", _splat_backward, setup_context=_splat_setup, lib=LIBRARY
)
refuse_double_backward("mask_warp", "_mask_warp_backward", "_mask_splat_backward")
