"""Matching and losses of whole videos (A2VIS, Sec. 3.8, Eq. 3-4).

Shapes: B videos, N slots, M objects, T frames of all clips together, K classes.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from amodal2.modeling.mask_classification.criterion import (
    PointLoss,
    class_loss,
    class_weights,
    object_count,
)
from amodal2.modeling.mask_classification.label_assignment import LabelAssignment
from amodal2.modeling.mask_classification.matcher import MaskTerm, match_slots
from amodal2.modeling.mask_classification.targets import VideoTarget


@dataclass
class VideoOutput:
    """Predictions for all clips of a batch of videos.

    Attributes:
        class_logits (Tensor[B, N, K+1]): from the final prototypes.
        visible_logits (Tensor[B, N, T, h, w]): visible masks.
        amodal_logits (list of Tensor[B, N, T, h, w]): before each SAMH layer, the final ones last;
            empty without SAMH.
        clip_class_logits (list of Tensor[B, N, K+1]): from the prototypes after each clip but the
            last; empty if unused.
        clip_lengths: frames of each clip.
    """

    class_logits: Tensor
    visible_logits: Tensor
    amodal_logits: list[Tensor]
    clip_class_logits: list[Tensor]
    clip_lengths: list[int]


class VideoCriterion(nn.Module):
    """One assignment of slots to objects per video; class, visible and amodal mask losses.

    Args:
        num_classes: object classes K.
        no_object_weight: weight of "no object" in the cross entropy.
        class_weight: weight of the class term in loss and cost.
        mask_weight: weight of the visible cross entropy in loss and cost.
        amodal_weight: weight of the amodal cross entropy in loss and cost.
        dice_weight: weight of both dice terms in loss and cost.
        points: the point losses.
        deep_supervision: supervise the amodal masks before each SAMH layer.
        clip_class_weight: weight of the class loss after each clip; 0 for none.
        match: "video" or "clip".

    Raises:
        ValueError: if ``match`` is unknown.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        no_object_weight: float,
        class_weight: float,
        mask_weight: float,
        amodal_weight: float,
        dice_weight: float,
        points: PointLoss,
        deep_supervision: bool = True,
        clip_class_weight: float = 0.0,
        match: str = "video",
    ) -> None:
        super().__init__()
        if match not in ("video", "clip"):
            raise ValueError(f"VideoCriterion: expected MATCH video or clip, got {match!r}")
        weights = class_weights(num_classes, no_object_weight)
        self.register_buffer("empty_weight", weights, persistent=False)
        self.class_weight, self.mask_weight = class_weight, mask_weight
        self.amodal_weight, self.dice_weight = amodal_weight, dice_weight
        self.points, self.match = points, match
        self.deep_supervision, self.clip_class_weight = deep_supervision, clip_class_weight

    empty_weight: Tensor

    def forward(self, output: VideoOutput, targets: list[VideoTarget]) -> dict[str, Tensor]:
        """Compute weighted losses.

        Args:
            output: predictions.
            targets: one per video.

        Returns:
            ``loss_ce``, ``loss_mask``, ``loss_dice``; with SAMH also ``loss_amodal_mask`` and
            ``loss_amodal_dice`` and, with deep supervision, the same with the suffix ``_{l}`` for
            the masks before layer l + 1; ``loss_clip_ce`` if the class loss after each clip is on.
        """
        pairs = [self._assign(output, i, target) for i, target in enumerate(targets)]
        device = output.class_logits.device
        count = object_count([slots for slots, _ in pairs], device)
        labels = self._labels(output.class_logits, targets, pairs)
        losses = {
            "loss_ce": self.class_weight
            * class_loss(output.class_logits, labels, self.empty_weight)
        }
        kinds = [("", output.visible_logits, [t.visible for t in targets], self.mask_weight)]
        steps = output.amodal_logits if self.deep_supervision else output.amodal_logits[-1:]
        amodal_masks = [t.amodal for t in targets]
        kinds += [("amodal_", logits, amodal_masks, self.amodal_weight) for logits in steps]
        for i, (kind, logits, masks, weight) in enumerate(kinds):
            suffix = f"_{i - 1}" if 0 < i < len(kinds) - 1 else ""
            bce, dice = self._mask_losses(logits, masks, targets, pairs)
            losses[f"loss_{kind}mask{suffix}"] = weight * bce / count
            losses[f"loss_{kind}dice{suffix}"] = self.dice_weight * dice / count
        if self.clip_class_weight and output.clip_class_logits:
            losses["loss_clip_ce"] = self._clip_class_loss(output, targets, pairs)
        return losses

    def _assign(self, output: VideoOutput, i: int, target: VideoTarget) -> tuple[Tensor, Tensor]:
        """Slots and objects of one video, on the predictions' device."""
        if self.match == "video":
            frames = range(target.visible.shape[1])
            everything = torch.ones_like(target.labels, dtype=torch.bool)
            slots, objects = self._match(output, i, target, slice(0, len(frames)), everything, None)
        else:
            slots, objects = self._assign_by_clip(output, i, target)
        device = output.class_logits.device
        return slots.to(device), objects.to(device)

    def _assign_by_clip(
        self, output: VideoOutput, i: int, target: VideoTarget
    ) -> tuple[Tensor, Tensor]:
        """Give each object a free slot in the first clip where it is visible (GenVIS, Sec. 3.2)."""
        assignment = LabelAssignment(
            output.class_logits.shape[1], len(target.labels), target.labels.device
        )
        start = 0
        for length in output.clip_lengths:
            clip = slice(start, start + length)
            start += length
            visible = target.visible[:, clip].flatten(1).any(1)
            assignment.update(visible, partial(self._match, output, i, target, clip))
        return assignment.pairs()

    def _match(
        self,
        output: VideoOutput,
        i: int,
        target: VideoTarget,
        frames: slice,
        chosen: Tensor,
        taken: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        terms = [
            MaskTerm(
                output.visible_logits[i, :, frames].detach(),
                target.visible[chosen][:, frames],
                self.mask_weight,
                self.dice_weight,
            )
        ]
        if output.amodal_logits:
            terms.append(
                MaskTerm(
                    output.amodal_logits[-1][i, :, frames].detach(),
                    target.amodal[chosen][:, frames],
                    self.amodal_weight,
                    self.dice_weight,
                )
            )
        slots, objects = match_slots(
            output.class_logits[i].detach(),
            target.labels[chosen],
            terms,
            class_weight=self.class_weight,
            num_points=self.points.num_points,
            generator=target.generator,
            blocked=taken,
        )
        return slots, chosen.nonzero()[:, 0].cpu()[objects]

    def _mask_losses(
        self,
        logits: Tensor,
        masks: list[Tensor],
        targets: list[VideoTarget],
        pairs: list[tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        bce = dice = logits.sum() * 0.0
        for x, y, target, (slots, objects) in zip(logits, masks, targets, pairs, strict=True):
            one_bce, one_dice = self.points(x[slots], y[objects], target.generator)
            bce, dice = bce + one_bce, dice + one_dice
        return bce, dice

    def _labels(
        self, logits: Tensor, targets: list[VideoTarget], pairs: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        labels = torch.full(logits.shape[:2], logits.shape[-1] - 1, device=logits.device)
        for i, (target, (slots, objects)) in enumerate(zip(targets, pairs, strict=True)):
            labels[i, slots] = target.labels[objects]
        return labels

    def _clip_class_loss(
        self, output: VideoOutput, targets: list[VideoTarget], pairs: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        total = output.class_logits.sum() * 0.0
        stop = 0
        for logits, length in zip(output.clip_class_logits, output.clip_lengths, strict=False):
            stop += length
            seen_pairs = []
            for target, (slots, objects) in zip(targets, pairs, strict=True):
                seen = target.visible[objects, :stop].flatten(1).any(1)
                seen_pairs.append((slots[seen], objects[seen]))
            labels = self._labels(logits, targets, seen_pairs)
            total = total + class_loss(logits, labels, self.empty_weight)
        return self.clip_class_weight * total / len(output.clip_class_logits)
