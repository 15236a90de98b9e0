"""Checks of the tensors that the ops of warping and splatting take."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of sums, flow and weight for masks of a type; TypeError for other types."""
    if dtype not in _MASK_DTYPES:
        names = ", ".join(str(known).removeprefix("torch.") for known in _MASK_DTYPES)
        raise TypeError(f"mask_warp: expected mask of type {names}, got {dtype}")
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_tensors(mask: Tensor, flow: Tensor, weight: Tensor | None) -> None:
    """Raise ValueError or TypeError unless the tensors of an op fit together."""
    if mask.dim() != 4:
        raise ValueError(f"mask_warp: expected mask [N, C, H, W], got {list(mask.shape)}")
    n, _, h, w = mask.shape
    expected = accumulate_dtype(mask.dtype)
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


def check_finite(flow: Tensor) -> None:
    """Raise ValueError at the first NaN or infinity, on the CPU, where looking costs no waiting."""
    if flow.device.type != "cpu" or flow.isfinite().all():
        return
    place = flow.isfinite().logical_not().nonzero()[0].tolist()
    raise ValueError(
        f"mask_warp: expected flow of finite numbers, got {flow[tuple(place)].item()} at {place}"
    )
