"""How the parts of a model run: with activations computed twice, or compiled.

Neither changes parameters, their names or, but for rounding, any result.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn
from torch.utils.checkpoint import checkpoint

_PLACES = {
    "backbone": "backbone",
    "pixel_decoder": "sem_seg_head.pixel_decoder",
    "samh": "a2vis.samh",
}


def set_execution(cfg: CfgNode, model: nn.Module) -> None:
    """Let the parts of a model run as ``MODEL.RECOMPUTE`` and ``MODEL.COMPILE`` say.

    Args:
        cfg: configuration.
        model: any system; changed in place, but neither its parameters nor their names.

    Raises:
        ValueError: if a part is unknown, absent from the model, or named by both keys.
    """
    both = set(cfg.MODEL.RECOMPUTE) & set(cfg.MODEL.COMPILE)
    if both:
        raise ValueError(
            "set_execution: expected parts in MODEL.RECOMPUTE or in MODEL.COMPILE, got "
            f"{sorted(both)} in both"
        )
    for name in cfg.MODEL.RECOMPUTE:
        for block in _blocks(name, _part(model, name, "RECOMPUTE")):
            recompute(block)
    compile_parts([_part(model, name, "COMPILE") for name in cfg.MODEL.COMPILE])


def recompute(module: nn.Module) -> None:
    """Keep only the inputs of a module for its gradients, and run it again in the backward pass.

    In evaluation and without gradients nothing changes. The second run draws the random numbers of
    the first, and does not move the running statistics of batch normalisation again.

    Args:
        module: changed in place; ``forward`` becomes an attribute of the instance.
    """
    module.forward = partial(_run_again, module)


def _run_again(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    run = partial(type(module).forward, module)
    if not (module.training and torch.is_grad_enabled()):
        return run(*args, **kwargs)
    return checkpoint(
        run,
        *args,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _statistics_kept(module)),
        **kwargs,
    )


def compile_parts(modules: Sequence[nn.Module]) -> None:
    """Compile modules in place with ``torch.compile``, for any size of the input.

    Without the compilers that PyTorch calls they stay as they are, and a warning says so.

    Args:
        modules: compiled at their first call; the names in their state stay the same.
    """
    if not modules:
        return
    missing = missing_compiler(next(modules[0].parameters()).device)
    if missing:
        logging.getLogger(__name__).warning(
            "MODEL.COMPILE is ignored: torch.compile needs %s, which is not installed here", missing
        )
        return
    for module in modules:
        module.compile(dynamic=True)


def missing_compiler(device: torch.device) -> str:
    """Name what ``torch.compile`` needs on a device and does not find.

    Args:
        device: CPU code is compiled by a C++ compiler, GPU code by Triton.

    Returns:
        str: empty if nothing is missing.
    """
    if device.type == "cuda":
        from torch.utils._triton import has_triton_package

        return "" if has_triton_package() else "the package triton"
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return "" if any(name and shutil.which(name) for name in names) else "a C++ compiler (g++)"


def _part(model: nn.Module, name: str, key: str) -> nn.Module:
    """Find a part of a model by its name in the configuration."""
    try:
        part = model.get_submodule(_PLACES[name])
    except (KeyError, AttributeError) as error:
        raise ValueError(
            f"set_execution: expected parts of {type(model).__name__} in MODEL.{key}, at most "
            f"{', '.join(_PLACES)}, got {name!r}"
        ) from error
    return part


def _blocks(name: str, part: nn.Module) -> list[nn.Module]:
    """Return the modules of a part that are run again one by one, never one inside another.

    Those of a backbone are the members of its stages; a single layer is left out, since its input
    would be kept all the same. SAMH is run again as a whole, clip by clip.
    """
    if name == "samh":
        return [part]
    if name == "pixel_decoder":
        return list(part.get_submodule("transformer.encoder.layers").children())
    found = _members(part)
    if not found:
        raise ValueError(
            f"set_execution: expected a backbone with stages of blocks for MODEL.RECOMPUTE, got "
            f"{type(part).__name__} without"
        )
    return found


def _members(module: nn.Module) -> list[nn.Module]:
    """Return the members of the outermost sequences that consist of several layers."""
    if isinstance(module, nn.Sequential):
        return [member for member in module if any(True for _ in member.children())]
    return [member for child in module.children() for member in _members(child)]


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch normalisation while it runs in training mode."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, batches) in zip(norms, before, strict=True):
        norm.momentum = 0.0
        norm.num_batches_tracked = None if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
