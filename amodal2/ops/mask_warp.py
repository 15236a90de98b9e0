"""Bilinear warping of masks along a flow field, and its adjoint, bilinear splatting.

The motion of SaVos (Yao et al., Self-supervised Amodal Video Object Segmentation, 2022, Eq. 2). Two
linear maps serve both directions and both gradients: ``torch.ops.amodal2.mask_warp`` gathers from
the four pixels around a point, ``torch.ops.amodal2.mask_splat`` adds to them; each is the gradient
of the other in the mask.

Letters: N masks or batch, C channels, H W image. p is a pixel, s(p) = p + flow[p] + offset the
point that it is connected with, b the bilinear hat max(0, 1 - |dx|) max(0, 1 - |dy|).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amodal2.ops._library import LIBRARY

_MASK_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

LIBRARY.define("mask_warp(Tensor mask, Tensor flow, float[2] offset, bool border) -> Tensor")
LIBRARY.define(
    "_mask_warp_backward(Tensor grad_output, Tensor mask, Tensor flow, float[2] offset, "
    "bool border, bool[2] needs) -> (Tensor, Tensor)"
)
LIBRARY.define(
    "mask_splat(Tensor mask, Tensor flow, Tensor? weight, bool coverage, float[2] offset, "
    "bool border) -> Tensor"
)
LIBRARY.define(
    "_mask_splat_backward(Tensor grad_sums, Tensor mask, Tensor flow, Tensor? weight, "
    "bool coverage, float[2] offset, bool border, bool[3] needs) -> (Tensor, Tensor, Tensor)"
)


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
    accumulate = _accumulate_dtype(mask.dtype)
    flow = _to_floating("flow", flow, accumulate)
    if mode == "backward":
        _check(mask, flow, None)
        return torch.ops.amodal2.mask_warp(mask, flow, shift, border)
    if weight is not None:
        weight = _to_floating("weight", weight, accumulate)
        weight = weight.unsqueeze(1) if weight.dim() == 3 else weight
    _check(mask, flow, weight)
    average = normalize == "average"
    sums = torch.ops.amodal2.mask_splat(mask, flow, weight, average, shift, border)
    if average:
        sums, covered = sums.split([mask.shape[1], 1], dim=1)
        sums = sums / torch.where(covered > eps, covered, eps)
    return sums.to(mask.dtype)


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


def _accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in _MASK_DTYPES:
        names = ", ".join(str(known).removeprefix("torch.") for known in _MASK_DTYPES)
        raise TypeError(f"mask_warp: expected mask of type {names}, got {dtype}")
    return torch.float64 if dtype == torch.float64 else torch.float32


def _to_floating(label: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        raise TypeError(f"mask_warp: expected {label} of a floating type, got {tensor.dtype}")
    return tensor.to(dtype)


def _check(mask: Tensor, flow: Tensor, weight: Tensor | None) -> None:
    """Raise ValueError or TypeError unless the tensors of an op fit together."""
    if mask.dim() != 4:
        raise ValueError(f"mask_warp: expected mask [N, C, H, W], got {list(mask.shape)}")
    n, _, h, w = mask.shape
    expected = _accumulate_dtype(mask.dtype)
    for label, tensor, channels in (("flow", flow, 2), ("weight", weight, 1)):
        if tensor is None:
            continue
        if tuple(tensor.shape) != (n, channels, h, w):
            raise ValueError(
                f"mask_warp: expected {label} [{n}, {channels}, {h}, {w}] (N, H, W of mask), "
                f"got {list(tensor.shape)}"
            )
        if tensor.dtype != expected:
            raise TypeError(f"mask_warp: expected {label} of type {expected}, got {tensor.dtype}")
        if tensor.device != mask.device:
            raise ValueError(
                f"mask_warp: expected {label} on {mask.device} like mask, got {tensor.device}"
            )


def _check_finite(flow: Tensor) -> None:
    """Raise ValueError at the first NaN or infinity, on the CPU, where looking costs no waiting."""
    if flow.device.type != "cpu" or flow.isfinite().all():
        return
    place = flow.isfinite().logical_not().nonzero()[0].tolist()
    raise ValueError(
        f"mask_warp: expected flow of finite numbers, got {flow[tuple(place)].item()} at {place}"
    )


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


@torch.library.impl(LIBRARY, "mask_warp", "CompositeExplicitAutograd")
def _warp_reference(mask: Tensor, flow: Tensor, offset: Sequence[float], border: bool) -> Tensor:
    """Gather from the four pixels around each point and interpolate."""
    _check(mask, flow, None)
    _check_finite(flow)
    taps = _find_taps(flow, offset, border)
    sampled = _mix(_gather(mask, taps), taps)
    sampled = torch.where(taps.finite[:, None], sampled, torch.nan)
    return sampled.view(mask.shape).to(mask.dtype)


@torch.library.impl(LIBRARY, "_mask_warp_backward", "CompositeExplicitAutograd")
def _warp_backward_reference(
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


@torch.library.impl(LIBRARY, "mask_splat", "CompositeExplicitAutograd")
def _splat_reference(
    mask: Tensor,
    flow: Tensor,
    weight: Tensor | None,
    coverage: bool,
    offset: Sequence[float],
    border: bool,
) -> Tensor:
    """Add to the four pixels around each point."""
    _check(mask, flow, weight)
    _check_finite(flow)
    return _scatter(_splatted(mask, flow, weight, coverage), _find_taps(flow, offset, border))


def _splatted(mask: Tensor, flow: Tensor, weight: Tensor | None, coverage: bool) -> Tensor:
    """Return what is added up: the weighted mask and, for the coverage, the weight itself."""
    values = mask.to(flow.dtype)
    if coverage:
        values = torch.cat([values, torch.ones_like(flow[:, :1])], dim=1)
    return values if weight is None else values * weight


@torch.library.impl(LIBRARY, "_mask_splat_backward", "CompositeExplicitAutograd")
def _splat_backward_reference(
    grad_sums: Tensor,
    mask: Tensor,
    flow: Tensor,
    weight: Tensor | None,
    coverage: bool,
    offset: Sequence[float],
    border: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample the gradient; multiply its slopes with what was added up."""
    taps = _find_taps(flow, offset, border)
    corners = _gather(grad_sums, taps)
    sampled = _mix(corners, taps)
    grad_mask, grad_flow, grad_weight = mask.new_empty(0), flow.new_empty(0), flow.new_empty(0)
    if needs[0]:
        by_mask = sampled[:, : mask.shape[1]]
        if weight is not None:
            by_mask = by_mask * weight.flatten(2)
        grad_mask = by_mask.reshape(mask.shape).to(mask.dtype)
    if needs[1]:
        values = _splatted(mask, flow, weight, coverage).flatten(2)
        dots = [(corner * values).sum(dim=1) for corner in corners]
        grad_flow = _slopes(dots, taps).view(flow.shape)
    if needs[2]:
        values = _splatted(mask, flow, None, coverage).flatten(2)
        grad_weight = (sampled * values).sum(dim=1).view_as(flow[:, :1])
    return grad_mask, grad_flow, grad_weight


@torch.library.register_fake("amodal2::mask_warp", lib=LIBRARY)
def _warp_fake(mask: Tensor, flow: Tensor, offset: Sequence[float], border: bool) -> Tensor:
    _check(mask, flow, None)
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
    coverage: bool,
    offset: Sequence[float],
    border: bool,
) -> Tensor:
    _check(mask, flow, weight)
    n, c, h, w = mask.shape
    return flow.new_empty(n, c + coverage, h, w)


@torch.library.register_fake("amodal2::_mask_splat_backward", lib=LIBRARY)
def _splat_backward_fake(
    grad_sums: Tensor,
    mask: Tensor,
    flow: Tensor,
    weight: Tensor | None,
    coverage: bool,
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


def _splat_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    mask, flow, weight, *ctx.options = inputs
    ctx.save_for_backward(mask, flow, weight)


def _splat_backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor | None, ...]:
    needs = list(ctx.needs_input_grad[:3])
    grads = torch.ops.amodal2._mask_splat_backward(
        grad_sums, *ctx.saved_tensors, *ctx.options, needs
    )
    return *_needed(grads, needs), None, None, None


def _needed(grads: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
    return [grad if need else None for grad, need in zip(grads, needs, strict=True)]


def _double_backward(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "mask_warp: expected first-order gradients only, got a double backward; "
        "call autograd with create_graph=False"
    )


torch.library.register_autograd(
    "amodal2::mask_warp", _warp_backward, setup_context=_warp_setup, lib=LIBRARY
)
torch.library.register_autograd(
    "amodal2::mask_splat", _splat_backward, setup_context=_splat_setup, lib=LIBRARY
)
torch.library.register_autograd("amodal2::_mask_warp_backward", _double_backward, lib=LIBRARY)
torch.library.register_autograd("amodal2::_mask_splat_backward", _double_backward, lib=LIBRARY)
