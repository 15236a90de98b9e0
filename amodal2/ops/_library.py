"""The one operator library of the project, ``torch.ops.amodal2``, and its compiled kernels.

Every op module defines its schema and its PyTorch reference on ``LIBRARY``. Importing the extension
``amodal2._C`` registers the compiled kernels, which the dispatcher then prefers; without it, or on
a device that it has no kernel for, the references run. With ``AMODAL2_OPS=reference`` in the
environment the extension is not imported, to compare the two paths or to look for a bug.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any, NamedTuple

import torch

_logger = logging.getLogger(__name__)

LIBRARY = torch.library.Library("amodal2", "FRAGMENT")


class OpPath(NamedTuple):
    """Which implementation an op takes on each device, and why.

    Attributes:
        path (str): for example ``"CPU: C++ kernel, CUDA: PyTorch reference"``.
        reason (str): whether the extension is loaded and, if not, why.
    """

    path: str
    reason: str


def _load_extension() -> tuple[bool, str]:
    """Import ``amodal2._C`` and return whether that worked, with the reason."""
    choice = os.environ.get("AMODAL2_OPS", "")
    if choice not in ("", "reference"):
        raise ValueError(f"AMODAL2_OPS: expected reference or nothing, got {choice!r}")
    if choice:
        return False, "AMODAL2_OPS=reference"
    try:
        importlib.import_module("amodal2._C")
    except ModuleNotFoundError:
        return False, "amodal2._C is not built"
    except ImportError as e:
        reason = f"amodal2._C cannot be loaded: {e}"
        _logger.warning(
            "%s; the PyTorch references run instead, build it again for this torch", reason
        )
        return False, reason
    return True, "amodal2._C is loaded"


HAS_C, C_REASON = _load_extension()


def refuse_double_backward(name: str, *gradients: str) -> None:
    """Let a backward pass through the gradients of an op raise RuntimeError.

    Args:
        name (str): the op's, for the message.
        gradients (str): the ops that compute its gradients, without the namespace.
    """

    def refuse(ctx: Any, *grads: torch.Tensor) -> None:
        raise RuntimeError(
            f"{name}: expected first-order gradients only, got a double backward; "
            "call autograd with create_graph=False"
        )

    for gradient in gradients:
        torch.library.register_autograd(f"amodal2::{gradient}", refuse, lib=LIBRARY)


def op_path(name: str) -> OpPath:
    """Ask the dispatcher which implementation of an op runs on each device.

    Args:
        name (str): the op's name without the namespace.

    Returns:
        OpPath: the implementation per device and the reason.
    """
    compiled = {"CPU": "C++ kernel", "CUDA": "CUDA kernel"}
    paths = []
    for device, kernel in compiled.items():
        found = torch._C._dispatch_has_kernel_for_dispatch_key(f"amodal2::{name}", device)
        paths.append(f"{device}: {kernel if found else 'PyTorch reference'}")
    return OpPath(", ".join(paths), C_REASON)
