"""Small weight files for shipping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from amodal2.utils.files import atomic_write


def export_weights(
    model: nn.Module,
    path: str | Path,
    *,
    fp16: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a model's parameters and buffers as safetensors.

    Args:
        model: any module; not changed.
        path: file to write, complete or not at all.
        fp16: store floating-point tensors in half precision, except those with a value that half
            precision would turn into infinity.
        metadata: text entries for the file's header, e.g. the config and the seed.

    Returns:
        Path: the file.
    """
    return write_weights(model.state_dict(), path, fp16=fp16, metadata=metadata)


def write_weights(
    state: Mapping[str, Any],
    path: str | Path,
    *,
    fp16: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write tensors by name as safetensors; see :func:`export_weights`.

    Args:
        state: name to tensor or array.
        path: file to write, complete or not at all.
        fp16: half precision where it can hold the values.
        metadata: text entries for the file's header.

    Returns:
        Path: the file.
    """
    tensors = {}
    for name, value in state.items():
        stored = torch.as_tensor(value).detach().cpu()
        if fp16 and stored.is_floating_point():
            half = stored.half()
            if torch.isfinite(half).all() or not torch.isfinite(stored).all():
                stored = half
        tensors[name] = stored.contiguous().clone()
    with atomic_write(path) as temporary:
        save_file(tensors, str(temporary), metadata=dict(metadata or {}))
    return Path(path)
