"""Losses on matched sets of masks (Mask2Former Sec. 3.3), normalised over the whole batch.

The official code normalises the class loss per process; here the sums of class weights and the
object counts are averaged over the batch first, so that the gradients do not depend on how it is
spread over processes and over parts.
Shapes: B images or videos, Q slots, N objects, T frames, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal2.modeling.mask_classification.matcher import MaskTerm, match_slots
from amodal2.modeling.mask_classification.points import sample_points, uncertain_points
from amodal2.modeling.mask_classification.slot_masks import BatchMasks, SlotMasks
from amodal2.modeling.mask_classification.transformer_decoder import (
    MaskPrediction,
    ProductPrediction,
)
from amodal2.utils.batch_mean import mean_over_batch


@dataclass
class MaskTarget:
    """Objects of one image or clip.

    Attributes:
        labels (Tensor[N]): int64 classes.
        masks (Tensor[N, T, H, W]): bool masks on the padded frames; T = 1 for an image.
        generator: generator of the sample's random points.
        ids (Tensor[N] or None): int64 numbers of the objects in their video, where they are needed.
    """

    labels: Tensor
    masks: Tensor
    generator: torch.Generator
    ids: Tensor | None = None


Pairs = tuple[Tensor, Tensor]
"""Slots and the objects that they are assigned to, both Tensor[M] of int64."""

Predictions = Sequence[MaskPrediction] | Sequence[ProductPrediction]
"""One per decoder step, the final one last."""

Masks = Tensor | SlotMasks
"""Mask logits [Q, T, h, w] of one image or clip."""

Assign = Callable[[int, Tensor, Masks], Pairs]
"""Maps the number of an image, its class logits [Q, K+1] and its mask logits to pairs."""


def object_count(targets: Sequence[Tensor], device: torch.device) -> Tensor:
    """Count objects as the mean over the processes and parts of a batch, 1 if there is none.

    The official code counts at least 1 per process, so that its losses of a batch with fewer
    objects than processes depend on the number of processes.

    Args:
        targets: one tensor per image whose first axis runs over the objects that are supervised.
        device: device of the result.

    Returns:
        Tensor[]: float32.
    """
    count = sum(len(x) for x in targets)
    mean = mean_over_batch(torch.tensor(float(count), device=device))
    return torch.where(mean > 0, mean, 1.0)


class PointLoss:
    """Mask cross entropy and dice at uncertain points.

    Args:
        num_points: points P per mask and frame.
        oversample: candidates per point.
        importance: share of points chosen by uncertainty.

    Raises:
        ValueError: if ``oversample`` is below 1 or ``importance`` outside [0, 1].
    """

    def __init__(self, num_points: int, oversample: float, importance: float) -> None:
        if not oversample >= 1:
            raise ValueError(
                f"PointLoss: expected OVERSAMPLE_RATIO to be at least 1, got {oversample}"
            )
        if not 0 <= importance <= 1:
            raise ValueError(
                f"PointLoss: expected IMPORTANCE_SAMPLE_RATIO in [0, 1], got {importance}"
            )
        self.num_points, self.oversample, self.importance = num_points, oversample, importance

    def __call__(
        self, logits: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sum the losses of matched masks.

        Points are chosen frame by frame; dice runs over all points of an object.

        Args:
            logits (Tensor[N, T, h, w]): predictions.
            targets (Tensor[N, T, H, W]): bool masks.
            generator: generator of the sample.

        Returns:
            cross entropy (mean over points) and dice, each summed over the objects.
        """
        count, frames = targets.shape[:2]
        if count == 0:
            zero = logits.sum() * 0.0
            return zero, zero
        with torch.autocast(logits.device.type, enabled=False):
            flat = logits.float().flatten(0, 1)[:, None]
            points = uncertain_points(
                flat, self.num_points, self.oversample, self.importance, generator
            )
            x = sample_points(flat, points).view(count, frames * self.num_points)
            truth = targets.flatten(0, 1)[:, None].float()
            y = sample_points(truth, points).view(count, frames * self.num_points)
            bce = F.binary_cross_entropy_with_logits(x, y, reduction="none").mean(1).sum()
            prob = x.sigmoid()
            dice = 1 - (2 * (prob * y).sum(1) + 1) / (prob.sum(1) + y.sum(1) + 1)
        return bce, dice.sum()


def class_weights(num_classes: int, no_object_weight: float) -> Tensor:
    """Return the weights of the cross entropy: 1 for objects.

    Args:
        num_classes: object classes K.
        no_object_weight: weight of "no object".

    Returns:
        Tensor[K+1]: float32.
    """
    return torch.tensor([1.0] * num_classes + [no_object_weight])


def class_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross entropy over all slots, divided by the mean weight sum over the batch.

    Args:
        logits (Tensor[B, Q, K+1]): class predictions.
        labels (Tensor[B, Q]): int64 classes, K for "no object".
        weights (Tensor[K+1]): weight of each class.

    Returns:
        Tensor[]: loss.
    """
    flat = logits.float().flatten(0, 1)
    total = F.cross_entropy(flat, labels.flatten(), weight=weights, reduction="sum")
    return total / mean_over_batch(weights[labels].sum())


def join_steps(steps: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Name the losses of several predictions.

    Args:
        steps: losses of each prediction, those of the final one last.

    Returns:
        the final losses under their names, the earlier ones with the suffix ``_{i}``.
    """
    last = len(steps) - 1
    return {
        name if i == last else f"{name}_{i}": value
        for i, losses in enumerate(steps)
        for name, value in losses.items()
    }


class SetCriterion(nn.Module):
    """Class, mask and dice losses of query-based masks, matched anew for every prediction.

    ``empty_weight`` is part of the state, as in the official files, but loading leaves it as
    configured.

    Args:
        num_classes: object classes K.
        no_object_weight: weight of "no object" in the cross entropy.
        class_weight: weight of the class term in loss and cost.
        mask_weight: weight of the mask cross entropy in loss and cost.
        dice_weight: weight of the dice term in loss and cost.
        points: the point losses.
        deep_supervision: use all predictions, not the last one alone.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        no_object_weight: float,
        class_weight: float,
        mask_weight: float,
        dice_weight: float,
        points: PointLoss,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        self.register_buffer("empty_weight", class_weights(num_classes, no_object_weight))
        self.class_weight, self.mask_weight, self.dice_weight = (
            class_weight,
            mask_weight,
            dice_weight,
        )
        self.points = points
        self.deep_supervision = deep_supervision

    empty_weight: Tensor

    def forward(self, predictions: Predictions, targets: list[MaskTarget]) -> dict[str, Tensor]:
        """Compute weighted losses.

        Args:
            predictions: one per decoder step, the final one last.
            targets: one per image.

        Returns:
            ``loss_ce``, ``loss_mask`` and ``loss_dice`` of the final prediction, and with the
            suffix ``_{i}`` of the earlier ones.
        """
        return self.losses_and_pairs(predictions, targets)[0]

    def losses_and_pairs(
        self, predictions: Predictions, targets: list[MaskTarget]
    ) -> tuple[dict[str, Tensor], list[list[Pairs]]]:
        """Compute weighted losses, and tell which slots were matched to which objects.

        Args:
            predictions: one per decoder step, the final one last.
            targets: one per image.

        Returns:
            the losses as :meth:`forward` names them, and for each prediction that was used the
            pairs of each image.
        """
        count = object_count([t.labels for t in targets], predictions[-1].class_logits.device)
        used = predictions if self.deep_supervision else predictions[-1:]
        steps = [self.score(prediction, targets, count) for prediction in used]
        return join_steps([losses for losses, _ in steps]), [pairs for _, pairs in steps]

    def match(
        self,
        class_logits: Tensor,
        masks: Masks,
        target: MaskTarget,
        chosen: Tensor | None = None,
        blocked: Tensor | None = None,
    ) -> Pairs:
        """Assign the objects of one image to slots at the least cost.

        Args:
            class_logits (Tensor[Q, K+1]): class predictions.
            masks (Tensor[Q, T, h, w] or SlotMasks): mask predictions.
            target: the objects.
            chosen (Tensor[N]): optional bool, the objects that are assigned.
            blocked (Tensor[Q]): optional bool, slots that may not be assigned.

        Returns:
            slots and objects, on the device of the predictions.
        """
        labels, truth = target.labels, target.masks
        if chosen is not None:
            labels, truth = labels[chosen], truth[chosen]
        slots, objects = match_slots(
            class_logits.detach(),
            labels,
            [MaskTerm(masks.detach(), truth, self.mask_weight, self.dice_weight)],
            class_weight=self.class_weight,
            num_points=self.points.num_points,
            generator=target.generator,
            blocked=blocked,
        )
        slots, objects = slots.to(class_logits.device), objects.to(class_logits.device)
        return slots, objects if chosen is None else chosen.nonzero()[:, 0][objects]

    def score(
        self,
        prediction: MaskPrediction | ProductPrediction,
        targets: list[MaskTarget],
        count: Tensor,
        assign: Assign | None = None,
    ) -> tuple[dict[str, Tensor], list[Pairs]]:
        """Compute the weighted losses of one prediction.

        Args:
            prediction: class and mask logits of all images.
            targets: one per image.
            count (Tensor[]): objects by which the mask losses are divided.
            assign: gives the pairs of an image; None matches its objects.

        Returns:
            ``loss_ce``, ``loss_mask`` and ``loss_dice``, and the pairs of each image.
        """
        logits = prediction.class_logits
        labels = torch.full(logits.shape[:2], logits.shape[-1] - 1, device=logits.device)
        everything = prediction.mask_logits
        if isinstance(everything, BatchMasks):
            bce = dice = everything.zero()
        else:
            bce = dice = everything.sum() * 0.0
        every = []
        for i, target in enumerate(targets):
            masks = everything[i]
            if isinstance(masks, Tensor) and masks.dim() == 3:
                masks = masks[:, None]
            if assign is None:
                pairs = self.match(logits[i], masks, target)
            else:
                pairs = assign(i, logits[i], masks)
            every.append(pairs)
            slots, objects = pairs
            labels[i, slots] = target.labels[objects]
            one_bce, one_dice = self.points(masks[slots], target.masks[objects], target.generator)
            bce, dice = bce + one_bce, dice + one_dice
        losses = {
            "loss_ce": self.class_weight * class_loss(logits, labels, self.empty_weight),
            "loss_mask": self.mask_weight * bce / count,
            "loss_dice": self.dice_weight * dice / count,
        }
        return losses, every

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        key = prefix + "empty_weight"
        if key in state_dict:
            state_dict[key] = self.empty_weight
        super()._load_from_state_dict(state_dict, prefix, *rest)
