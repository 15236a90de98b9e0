"""Bipartite matching of slots to objects (Mask2Former Sec. 3.3; A2VIS Eq. 3).

Shapes: Q slots, N objects, T frames, P points.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from amodal2.modeling.mask_classification.points import sample_points, uniform_points
from amodal2.modeling.mask_classification.slot_masks import SlotMasks
from amodal2.utils.logging import get_logger, warn_once

_UNUSABLE = 1e6


@dataclass
class MaskTerm:
    """One kind of mask in matching and loss.

    Attributes:
        logits (Tensor[Q, T, h, w] or SlotMasks): predictions.
        targets (Tensor[N, T, H, W]): bool masks on the padded frames.
        bce_weight: weight of the binary cross entropy.
        dice_weight: weight of the dice term.
    """

    logits: Tensor | SlotMasks
    targets: Tensor
    bce_weight: float
    dice_weight: float


@torch.no_grad()
def match_slots(
    class_logits: Tensor | None,
    labels: Tensor,
    terms: list[MaskTerm],
    *,
    class_weight: float,
    num_points: int,
    generator: torch.Generator,
    blocked: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Assign every object to one slot at the least total cost.

    The cost is ``class_weight * (-p_class)`` plus, for every kind of mask, weighted cross entropy
    and dice at random points shared by all slots, objects and frames. Non-finite costs are replaced
    and reported once.

    Args:
        class_logits (Tensor[Q, K+1] or None): class predictions; None leaves the class term out.
        labels (Tensor[N]): int64 classes of the objects.
        terms: kinds of masks.
        class_weight: weight of the class term.
        num_points: P.
        generator: generator of the sample, on the CPU.
        blocked (Tensor[Q]): optional bool, slots that may not be assigned.

    Returns:
        slot indices and object indices (Tensor[M], int64, on the CPU), with M the smaller of N and
        the free slots.
    """
    if labels.numel() == 0:
        empty = torch.zeros(0, dtype=torch.int64)
        return empty, empty
    cost = torch.zeros(len(terms[0].logits), labels.numel(), device=labels.device)
    if class_logits is not None:
        cost = cost - class_weight * class_logits.float().softmax(-1)[:, labels]
    points = uniform_points(1, num_points, generator, labels.device)
    for term in terms:
        cost = cost + _mask_cost(term, points)
    if not torch.isfinite(cost).all():
        warn_once(
            get_logger(__name__),
            "match_slots: found non-finite matching costs, using the largest cost instead; lower "
            "the learning rate if the loss is not finite either",
        )
        cost = cost.nan_to_num(_UNUSABLE, _UNUSABLE, -_UNUSABLE)
    if blocked is not None:
        cost = cost.masked_fill(blocked[:, None], _UNUSABLE)
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    slots, objects = torch.as_tensor(rows), torch.as_tensor(columns)
    if blocked is not None:
        free = ~blocked.cpu()[slots]
        slots, objects = slots[free], objects[free]
    return slots, objects


def _mask_cost(term: MaskTerm, points: Tensor) -> Tensor:
    logits = _at_points(term.logits, points)
    targets = _at_points(term.targets, points)
    count = logits.shape[1]
    with torch.autocast(logits.device.type, enabled=False):
        cost = torch.zeros(logits.shape[0], targets.shape[0], device=logits.device)
        if term.bce_weight:
            positive, negative = F.softplus(-logits), F.softplus(logits)
            bce = (positive @ targets.t() + negative @ (1 - targets).t()) / count
            cost = cost + term.bce_weight * bce
        if term.dice_weight:
            prob = logits.sigmoid()
            overlap = 2 * (prob @ targets.t())
            total = prob.sum(1)[:, None] + targets.sum(1)[None]
            cost = cost + term.dice_weight * (1 - (overlap + 1) / (total + 1))
    return cost


def _at_points(maps: Tensor | SlotMasks, points: Tensor) -> Tensor:
    """Sample [X, T, h, w] at the same points of every frame: [X, T*P]."""
    if isinstance(maps, SlotMasks):
        return maps.at_points(points)
    flat = maps.float().flatten(0, 1)[None]
    return sample_points(flat, points)[0].unflatten(0, maps.shape[:2]).flatten(1)
