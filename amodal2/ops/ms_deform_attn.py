"""Multi-scale deformable attention (Deformable DETR, Sec. 4.1, Eq. 3) without its projections.

Letters: B batch, S positions of all levels together, M heads, D channels per head, Q queries,
L levels, P points per level.

The reference here runs wherever no compiled kernel is registered. Both sample with bilinear
interpolation and zeros outside, and both compute in float32 (float64 for float64 values).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from amodal2.ops._library import LIBRARY, refuse_double_backward

_VALUE_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

LIBRARY.define(
    "ms_deform_attn(Tensor value, SymInt[] spatial_shapes, Tensor sampling_locations, "
    "Tensor attention_weights) -> Tensor"
)
LIBRARY.define(
    "_ms_deform_attn_backward(Tensor grad_output, Tensor value, SymInt[] spatial_shapes, "
    "Tensor sampling_locations, Tensor attention_weights) -> (Tensor, Tensor, Tensor)"
)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum the values at sampled points of all levels, weighted, per query and head.

    A location (x, y) lies in the unit square of its level: (0, 0) is the top-left corner of the
    top-left pixel, so the pixel coordinate is x W - 0.5, y H - 0.5. Values are interpolated
    bilinearly and are zero outside the level.

    Args:
        value (Tensor[B, S, M, D]): float64, float32, bfloat16 or float16; the levels one after the
            other, each row by row.
        spatial_shapes (Sequence[tuple[int, int]]): (height, width) of each level; the products sum
            to S.
        sampling_locations (Tensor[B, Q, M, L, P, 2]): (x, y), any floating type; points outside
            [0, 1] are legal.
        attention_weights (Tensor[B, Q, M, L, P]): any floating type; nothing is normalised.

    Returns:
        Tensor[B, Q, M * D]: contiguous, dtype and device of ``value``.

    Raises:
        TypeError: if ``value`` is not of one of its types or another tensor not of a floating type.
        ValueError: if the shapes do not fit together or the devices differ.

    Note:
        Differentiable once in the three tensors; a double backward raises RuntimeError. Sums are
        kept in float32 for the short types. Mixed types are legal, so autocast needs no care.
        B = 0, Q = 0 and P = 0 are legal, and so are non-contiguous tensors; CUDA takes at most 128
        levels. The compiled CPU kernel is deterministic, forward and backward, for any number of
        threads. On CUDA the gradient of ``value`` is summed by atomic additions, in no fixed order;
        under ``torch.use_deterministic_algorithms(True)`` the kernel sums it in 64-bit fixed point
        instead, which has the same bits in every order. Its unit is less than 2^-40 of the largest
        gradient times the largest weight for Q P up to 2^20; if that product is not finite, nor is
        any part of the gradient. The CUDA kernels compile for sm_80 and sm_90; none has run yet.
    """
    accumulate = _accumulate_dtype(value.dtype)
    tensors = {"sampling_locations": sampling_locations, "attention_weights": attention_weights}
    for label, other in tensors.items():
        if not other.is_floating_point():
            raise TypeError(
                f"ms_deform_attn: expected {label} of a floating type, got {other.dtype}"
            )
    shapes = [size for shape in spatial_shapes for size in shape]
    locations, weights = sampling_locations.to(accumulate), attention_weights.to(accumulate)
    _check(value, shapes, locations, weights)
    return torch.ops.amodal2.ms_deform_attn(value, shapes, locations, weights)


def _accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in _VALUE_DTYPES:
        names = ", ".join(str(known).removeprefix("torch.") for known in _VALUE_DTYPES)
        raise TypeError(f"ms_deform_attn: expected value of type {names}, got {dtype}")
    return torch.float64 if dtype == torch.float64 else torch.float32


def _check(
    value: Tensor, shapes: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> None:
    """Raise ValueError or TypeError unless the arguments of the op fit together."""
    name = "ms_deform_attn"
    if value.dim() != 4:
        raise ValueError(f"{name}: expected value [B, S, M, D], got {list(value.shape)}")
    if sampling_locations.dim() != 6 or sampling_locations.shape[5] != 2:
        got = list(sampling_locations.shape)
        raise ValueError(f"{name}: expected sampling_locations [B, Q, M, L, P, 2], got {got}")
    batch, length, heads, _ = value.shape
    levels = len(shapes) // 2
    if len(shapes) % 2 or not levels or any(size < 1 for size in shapes):
        raise ValueError(
            f"{name}: expected spatial_shapes with a (height, width) of at least (1, 1) per level, "
            f"got {list(shapes)}"
        )
    total = sum(h * w for h, w in zip(shapes[::2], shapes[1::2], strict=True))
    if total != length:
        raise ValueError(
            f"{name}: expected value with {total} positions for spatial_shapes {list(shapes)}, "
            f"got {length}"
        )
    if (sampling_locations.shape[0], *sampling_locations.shape[2:4]) != (batch, heads, levels):
        raise ValueError(
            f"{name}: expected sampling_locations [{batch}, Q, {heads}, {levels}, P, 2] (B, M of "
            f"value, L of spatial_shapes), got {list(sampling_locations.shape)}"
        )
    if attention_weights.shape != sampling_locations.shape[:5]:
        raise ValueError(
            f"{name}: expected attention_weights {list(sampling_locations.shape[:5])} like "
            f"sampling_locations, got {list(attention_weights.shape)}"
        )
    expected = _accumulate_dtype(value.dtype)
    tensors = {"sampling_locations": sampling_locations, "attention_weights": attention_weights}
    for label, other in tensors.items():
        if other.dtype != expected:
            raise TypeError(f"{name}: expected {label} of type {expected}, got {other.dtype}")
        if other.device != value.device:
            raise ValueError(
                f"{name}: expected {label} on {value.device} like value, got {other.device}"
            )


def _sample_plan(
    value: Tensor, shapes: Sequence[int], sampling_locations: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Return per level its values [B*M, D, H, W] and grid [B*M, Q, P, 2] in [-1, 1]."""
    batch, _, heads, depth = value.shape
    sizes = list(zip(shapes[::2], shapes[1::2], strict=True))
    maps = value.permute(0, 2, 3, 1).split([h * w for h, w in sizes], dim=-1)
    grids = (2 * sampling_locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    return [
        (maps[level].reshape(batch * heads, depth, h, w), grids[level])
        for level, (h, w) in enumerate(sizes)
    ]


@torch.library.impl(LIBRARY, "ms_deform_attn", "CompositeExplicitAutograd")
def _reference(
    value: Tensor,
    spatial_shapes: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sample each level with the bilinear grid sampler of PyTorch and sum."""
    _check(value, spatial_shapes, sampling_locations, attention_weights)
    batch, queries, heads, _, points = attention_weights.shape
    depth = value.shape[3]
    total = value.new_zeros(batch * heads, depth, queries, dtype=sampling_locations.dtype)
    if total.numel() and points:
        wide = value.to(total.dtype)
        weights = attention_weights.permute(3, 0, 2, 1, 4).flatten(1, 2)
        plan = _sample_plan(wide, spatial_shapes, sampling_locations)
        for (level, grid), weight in zip(plan, weights, strict=True):
            sampled = torch.ops.aten.grid_sampler_2d(level, grid, 0, 0, False)
            total += (sampled * weight[:, None]).sum(dim=-1)
    output = total.view(batch, heads, depth, queries).permute(0, 3, 1, 2)
    return output.reshape(batch, queries, heads * depth).to(value.dtype).contiguous()


@torch.library.impl(LIBRARY, "_ms_deform_attn_backward", "CompositeExplicitAutograd")
def _backward_reference(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate ``_reference`` level by level."""
    batch, queries, heads, _, points = attention_weights.shape
    depth = value.shape[3]
    dtype = sampling_locations.dtype
    grad_value = torch.zeros_like(value, memory_format=torch.contiguous_format)
    grad_locations = torch.zeros_like(sampling_locations, memory_format=torch.contiguous_format)
    grad_weights = torch.zeros_like(attention_weights, memory_format=torch.contiguous_format)
    if not grad_output.numel() or not points:
        return grad_value, grad_locations, grad_weights
    grad = grad_output.to(dtype).view(batch, queries, heads, depth).permute(0, 2, 3, 1)
    grad = grad.reshape(batch * heads, depth, queries, 1)
    weights = attention_weights.permute(3, 0, 2, 1, 4).flatten(1, 2)
    plan = _sample_plan(value.to(dtype), spatial_shapes, sampling_locations)
    start = 0
    for index, (level, grid) in enumerate(plan):
        sampled = torch.ops.aten.grid_sampler_2d(level, grid, 0, 0, False)
        by_weight = (sampled * grad).sum(dim=1).view(batch, heads, queries, points)
        grad_weights[:, :, :, index] = by_weight.transpose(1, 2)
        by_level, by_grid = torch.ops.aten.grid_sampler_2d_backward(
            grad * weights[index][:, None], level, grid, 0, 0, False, [True, True]
        )
        by_grid = 2 * by_grid.view(batch, heads, queries, points, 2)
        grad_locations[:, :, :, index] = by_grid.transpose(1, 2)
        by_level = by_level.view(batch, heads, depth, -1).permute(0, 3, 1, 2)
        grad_value[:, start : start + by_level.shape[1]] = by_level.to(value.dtype)
        start += by_level.shape[1]
    return grad_value, grad_locations, grad_weights


@torch.library.register_fake("amodal2::ms_deform_attn", lib=LIBRARY)
def _fake(
    value: Tensor,
    spatial_shapes: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    _check(value, spatial_shapes, sampling_locations, attention_weights)
    batch, _, heads, depth = value.shape
    return value.new_empty(batch, sampling_locations.shape[1], heads * depth)


@torch.library.register_fake("amodal2::_ms_deform_attn_backward", lib=LIBRARY)
def _backward_fake(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = (value, sampling_locations, attention_weights)
    grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
    return grads[0], grads[1], grads[2]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.spatial_shapes, sampling_locations, attention_weights = inputs
    ctx.save_for_backward(value, sampling_locations, attention_weights)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, sampling_locations, attention_weights = ctx.saved_tensors
    grads = torch.ops.amodal2._ms_deform_attn_backward(
        grad_output, value, ctx.spatial_shapes, sampling_locations, attention_weights
    )
    return grads[0], None, grads[1], grads[2]


torch.library.register_autograd(
    "amodal2::ms_deform_attn", _backward, setup_context=_setup_context, lib=LIBRARY
)
refuse_double_backward("ms_deform_attn", "_ms_deform_attn_backward")
