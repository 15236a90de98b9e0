"""Losses of mask logits and what is logged beside them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.utils.events import get_event_storage
from torch import Tensor


def select_class(logits: Tensor, classes: Tensor) -> Tensor:
    """Take the channel of its class from each region.

    Args:
        logits (Tensor[N, K, M, M]): K is 1 for class-agnostic masks.
        classes (Tensor[N]): int64 in [0, K); not looked at if K is 1.

    Returns:
        Tensor[N, M, M]: the chosen channels.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(len(logits), device=logits.device), classes]


def mask_loss(
    logits: Tensor,
    target: Tensor,
    known: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Average the binary cross entropy over regions and cells.

    Args:
        logits (Tensor[N, M, M]): predictions.
        target (Tensor[N, M, M]): 0 or 1.
        known (Tensor[N]): bool; regions without ground truth are left out.
        weights (Tensor[N]): of the regions; None for ones. The sum is divided by their number.

    Returns:
        Tensor: scalar; zero, with gradients, if no region is left.
    """
    if known is not None and not bool(known.all()):
        known = known.to(logits.device)
        logits, target = logits[known], target[known]
        weights = weights if weights is None else weights[known]
    if not len(logits):
        return logits.sum() * 0
    cells = None if weights is None else weights[:, None, None].float()
    return F.binary_cross_entropy_with_logits(logits.float(), target, weight=cells)


def occluder_regions(target: Tensor) -> Tensor:
    """Choose the regions of AISFormer's and BCNet's official occluder loss.

    These are all b regions with an occluder, followed by the first b regions of the batch, whether
    they have one or not.

    Args:
        target (Tensor[N, M, M]): occluder masks.

    Returns:
        Tensor[2 b]: int64 indices, with repetitions.
    """
    occluded = target.flatten(1).any(dim=1).nonzero()[:, 0]
    return torch.cat((occluded, torch.arange(len(occluded), device=target.device)))


def log_mask_accuracy(kind: str, logits: Tensor, target: Tensor, known: Tensor) -> None:
    """Store the share of right cells, of false positives and of false negatives.

    Args:
        kind: of the masks; the scalars are called ``mask_head/<kind>_accuracy`` and so on.
        logits (Tensor[N, M, M]): predictions.
        target (Tensor[N, M, M]): 0 or 1.
        known (Tensor[N]): bool; nothing is stored if no region has ground truth.
    """
    if not bool(known.any()):
        return
    chosen = known.to(logits.device)
    found, true = logits.detach()[chosen] > 0, target[chosen] > 0.5
    counts = torch.stack(
        [x.sum() for x in (found == true, found & ~true, ~true, ~found & true, true)]
    ).tolist()
    right, false_positive, negative, false_negative, positive = counts
    storage = get_event_storage()
    storage.put_scalar(f"mask_head/{kind}_accuracy", right / true.numel())
    storage.put_scalar(f"mask_head/{kind}_false_positive", false_positive / max(negative, 1))
    storage.put_scalar(f"mask_head/{kind}_false_negative", false_negative / max(positive, 1))
