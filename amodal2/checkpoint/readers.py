"""Readers of weight files that never run code from the file."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from amodal2.checkpoint.c2f_seg import join_c2f_parts
from amodal2.utils.errors import CheckpointError
from amodal2.utils.pickles import ArrayUnpickler

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

    The format is recognised by content, whatever the file is called:

    - safetensors: tensors by name.
    - pickles: arrays or tensors by name, alone or under "model" (Detectron2's model zoo, converted
      backbones; Caffe2's "blobs" too), with plain entries beside it.
    - files of ``torch.save``, old and new: tensors by name, alone or under "model" or "state_dict",
      or in the parts of C2F-Seg's official files.

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
    try:
        data = _choose_reader(path)(path)
    except _DAMAGED as e:
        detail = (str(e).splitlines() or ["no message"])[0]
        raise CheckpointError(
            f"read_weights: expected a complete {path.suffix or 'torch'} file of tensors and plain "
            f"data, got {path} ({type(e).__name__}: {detail})"
        ) from e
    if not isinstance(data, dict):
        raise CheckpointError(f"read_weights: expected a dict in {path}, got {type(data).__name__}")
    join_c2f_parts(data)
    if isinstance(data.get("state_dict"), dict):
        data["model"] = data.pop("state_dict")
    if not isinstance(data.get("model"), dict):
        data = {"model": data}
    other = [
        name for name, x in data["model"].items() if not isinstance(x, torch.Tensor | np.ndarray)
    ]
    if other:
        raise CheckpointError(
            f"read_weights: expected tensors by name in {path}, got other entries: "
            f"{', '.join(map(str, other[:5]))}"
        )
    return data


def read_code_dictionary(path: str | Path) -> dict[int, torch.Tensor]:
    """Read the codes of VRSP's official code: ``numpy.save`` of a dict from class to codes.

    Args:
        path: ``*_codebook.npy``; it is a pickle, of which nothing is run.

    Returns:
        dict[int, Tensor[L, D]]: contiguous class index -> float32 codes on the CPU.

    Raises:
        CheckpointError: if the file is missing, damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"read_code_dictionary: expected a codebook, got no such file: {path}"
        )
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            (np.lib.format.read_array_header_2_0 if version > (1, 0) else
             np.lib.format.read_array_header_1_0)(file)  # fmt: skip
            data = _WeightUnpickler(file, encoding="latin1").load()
        codes = {int(k): torch.as_tensor(v).detach().cpu().float() for k, v in data.item().items()}
        if not codes or any(values.ndim != 2 for values in codes.values()):
            raise ValueError("no class with codes [L, D]")
    except _DAMAGED as e:
        detail = (str(e).splitlines() or ["no message"])[0]
        raise CheckpointError(
            f"read_code_dictionary: expected numpy.save of a dict of codes per class, got {path} "
            f"({type(e).__name__}: {detail})"
        ) from e
    return codes


def _choose_reader(path: Path) -> Callable[[Path], Any]:
    """Choose the reader by the first bytes."""
    with path.open("rb") as file:
        start = file.read(32)
    if start.startswith((_ZIP, _OLD_TORCH)):
        return _read_torch
    if start[8:9] == b"{":  # after the length of the header
        return _read_safetensors
    return _read_pickle


def _read_safetensors(path: Path) -> dict[str, Any]:
    return {"model": load_file(path)}


def _read_torch(path: Path) -> Any:
    # Schedulers and hooks leave numbers of NumPy beside the weights.
    scalars: list[Any] = [
        np.dtype,
        np.dtypes.Float64DType,
        np.dtypes.Float32DType,
        np.dtypes.Int64DType,
        (_numpy_scalar, "numpy.core.multiarray.scalar"),
        (_numpy_scalar, "numpy._core.multiarray.scalar"),
    ]
    with torch.serialization.safe_globals(scalars):
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        data = _WeightUnpickler(file, encoding="latin1").load()
    if not isinstance(data, dict) or isinstance(data.get("model"), dict):
        return data
    blobs = data.get("blobs", data)
    if not any("." in name for name in blobs):  # Caffe2 joins the parts of a name by "_"
        weights = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
        return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    return data


class _WeightUnpickler(ArrayUnpickler):
    """Knows tensors too, as Mask2Former's tool for Swin Transformers pickles them."""

    def find_class(self, module: str, name: str) -> Any:
        return _TENSORS.get((module, name)) or super().find_class(module, name)


def _load_storage(content: bytes) -> Any:
    """Read a storage; torch's own function of this role would run code from the file."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


_ZIP = b"PK\x03\x04"
_OLD_TORCH = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)
_numpy_scalar: Any = np.float64(0).__reduce__()[0]
_TENSORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _load_storage,
}
