"""Readers of weight files that never run code from the file."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from amodal2.utils.errors import CheckpointError
from amodal2.utils.pickles import load_plain_pickle

# What the three formats raise on truncated files, other contents, or forbidden objects.
_DAMAGED = (
    pickle.UnpicklingError,
    SafetensorError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read a weight file.

    - ``.safetensors``: tensors by name.
    - ``.pkl``: arrays by name, alone or under "model" (Detectron2's model zoo; Caffe2's "blobs"
      too), with plain entries beside it.
    - anything else: written by ``torch.save``; tensors by name, alone or under "model".

    Args:
        path: file on this machine.

    Returns:
        dict: "model" (name to tensor or array) and whatever lies beside it in the file.

    Raises:
        CheckpointError: if the file is missing, damaged, of another kind, or holds more than plain
            data.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"read_weights: expected a weight file, got no such file: {path}")
    reader = _READERS.get(path.suffix, _read_torch)
    try:
        data = reader(path)
    except _DAMAGED as e:
        detail = (str(e).splitlines() or ["no message"])[0]
        raise CheckpointError(
            f"read_weights: expected a complete {path.suffix or 'torch'} file of tensors and plain "
            f"data, got {path} ({type(e).__name__}: {detail})"
        ) from e
    if not isinstance(data, dict):
        raise CheckpointError(f"read_weights: expected a dict in {path}, got {type(data).__name__}")
    return data if isinstance(data.get("model"), dict) else {"model": data}


def _read_safetensors(path: Path) -> dict[str, Any]:
    return {"model": load_file(path)}


def _read_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_pickle(path: Path) -> Any:
    data = load_plain_pickle(path)
    if not isinstance(data, dict) or isinstance(data.get("model"), dict):
        return data
    blobs = data.get("blobs", data)
    if not any("." in name for name in blobs):  # Caffe2 joins the parts of a name by "_"
        weights = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
        return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    return data


_READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": _read_safetensors,
    ".pkl": _read_pickle,
}
