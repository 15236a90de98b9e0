"""Gradients of a batch that passes the model part by part, equal to those of one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from amodal2.utils.batch_mean import PartMeans

Losses = dict[str, Tensor]


def add_gradients(
    model: nn.Module,
    batch: list[dict[str, Any]],
    parts: int,
    *,
    seed: Callable[[], None],
    autocast: Callable[[], AbstractContextManager],
) -> Losses:
    """Add the gradients of the mean loss of a batch to those of the parameters.

    With several parts the model first counts what its losses are divided by, see
    :class:`amodal2.utils.batch_mean.PartMeans`; this costs a pass without gradients, or little
    where the model leaves out what does not count. The gradients are then those of one pass over
    the batch, whatever its parts hold, if nothing else relates the samples of a batch: trainable
    batch normalisation sees the statistics of a part, samples are padded to the largest size of
    their part, and dropout draws other numbers. Processes exchange gradients once, in the last
    part.

    Args:
        model: maps samples to losses; possibly wrapped in ``DistributedDataParallel``.
        batch: samples of this process.
        parts: equal parts that pass the model one after another.
        seed: seeds the random generators; called before every run through the batch.
        autocast: makes the context in which the model runs.

    Returns:
        dict[str, Tensor[]]: the mean losses, detached.
    """
    seed()
    if parts == 1:
        with autocast():
            losses = model(batch)
            total = sum(losses.values())
        total.backward()
        return {name: loss.detach() for name, loss in losses.items()}
    shares = split_batch(batch, parts)
    means = _count(model, shares, autocast)
    seed()
    mean_losses: Losses = {}
    for i, share in enumerate(shares):
        waiting: AbstractContextManager = nullcontext()
        if i + 1 < parts and isinstance(model, DistributedDataParallel):
            waiting = model.no_sync()
        with waiting:
            with autocast(), means.given():
                losses = {name: loss / parts for name, loss in model(share).items()}
                total = sum(losses.values())
            total.backward()
        for name, loss in losses.items():
            mean_losses[name] = mean_losses.get(name, 0.0) + loss.detach()
    return mean_losses


def split_batch(batch: list[dict[str, Any]], parts: int) -> list[list[dict[str, Any]]]:
    """Split a batch into equal parts.

    Args:
        batch: samples.
        parts: their number divides that of the samples.

    Returns:
        list of lists of samples, in order.

    Raises:
        ValueError: if the samples do not divide.
    """
    size, rest = divmod(len(batch), parts)
    if rest or not size:
        raise ValueError(
            f"split_batch: expected samples for {parts} equal parts, got {len(batch)}; change "
            "SOLVER.ACCUMULATE or SOLVER.IMS_PER_BATCH"
        )
    return [batch[i : i + size] for i in range(0, len(batch), size)]


@torch.no_grad()
def _count(
    model: nn.Module,
    shares: list[list[dict[str, Any]]],
    autocast: Callable[[], AbstractContextManager],
) -> PartMeans:
    """Let the model count what the losses of a batch are divided by."""
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    means = PartMeans()
    with _running_statistics_kept(bare):
        for share in shares:
            with autocast(), means.counting():
                bare(share)
    means.close()
    return means


@contextmanager
def _running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Let batch normalisation neither use nor track the statistics of the batches inside."""
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    ]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
