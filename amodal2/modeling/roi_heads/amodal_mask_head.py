"""What all mask heads share: losses in training, soft masks of each kind in inference.

Shapes: N regions, C channels, S side of the pooled features, M side of the masks, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances
from torch import Tensor, nn

from amodal2.modeling.roi_heads.mask_kinds import AMODAL, OCCLUDER, PRED_FIELDS
from amodal2.modeling.roi_heads.mask_losses import (
    log_mask_accuracy,
    mask_loss,
    occluder_regions,
    select_class,
)
from amodal2.modeling.roi_heads.mask_targets import (
    INVISIBLE_TARGETS,
    MaskTargets,
    collect_targets,
)
from amodal2.structures import fields

OCCLUDER_BATCHES = ("all", "official")
"""Regions that the occluder loss is averaged over: all, or those of ``occluder_regions``."""


class AmodalMaskHead(nn.Module):
    """Predicts some kinds of masks for every region, as any ``ROI_MASK_HEAD`` does.

    Subclasses name their kinds with the weights of their losses and implement :meth:`layers`.
    """

    weights: ClassVar[Mapping[str, float]]
    """Kind -> weight of its loss in the source; the kinds that the head predicts."""

    def __init__(
        self,
        *,
        weights: Mapping[str, float] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        invisible_target: str = "difference",
        occluder_batch: str = "all",
    ) -> None:
        """Store the settings of the losses.

        Args:
            weights: kinds that this head predicts, with their weights; None takes the class's.
            loss_weights: kind -> weight that replaces the head's own.
            invisible_target: one of ``INVISIBLE_TARGETS``.
            occluder_batch: one of ``OCCLUDER_BATCHES``.

        Raises:
            ValueError: if a choice is unknown.
        """
        super().__init__()
        name = type(self).__name__
        for value, choices in (
            (invisible_target, INVISIBLE_TARGETS),
            (occluder_batch, OCCLUDER_BATCHES),
        ):
            if value not in choices:
                raise ValueError(f"{name}: expected one of {choices}, got {value!r}")
        own = self.weights if weights is None else weights
        self.loss_weights = {**own, **(loss_weights or {})}
        self.invisible_target = invisible_target
        self.occluder_batch = occluder_batch

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the keys that all heads share."""
        node = cfg.MODEL.ROI_MASK_HEAD
        given = {kind: node.LOSS_WEIGHTS[kind.upper()] for kind in cls.weights}
        return {
            "loss_weights": {kind: weight for kind, weight in given.items() if weight >= 0},
            "invisible_target": node.INVISIBLE_TARGET,
            "occluder_batch": node.OCCLUDER_BATCH,
        }

    def layers(self, x: Tensor) -> dict[str, Tensor]:
        """Predict every kind.

        Args:
            x (Tensor[N, C, S, S]): pooled features.

        Returns:
            dict[str, Tensor[N, K or 1, M, M]]: kind -> logits.
        """
        raise NotImplementedError(f"{type(self).__name__}.layers: expected an implementation")

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:
        """Learn from regions, or predict their masks.

        Args:
            x (Tensor[N, C, S, S]): pooled features of all images.
            instances: regions per image. In training with ``proposal_boxes``, ``gt_classes`` and
                ``gt_*_masks``, else with ``pred_boxes`` and ``pred_classes``.

        Returns:
            dict[str, Tensor] | list[Instances]: in training the losses ``loss_<kind>_mask``; else
            ``instances`` with ``pred_<kind>_masks`` (probabilities [N, 1, M, M] inside the boxes)
            of every kind and, for Detectron2's code, ``pred_masks``, which are the amodal masks.
        """
        if self.training:
            logits = self.layers(x)
            side = next(iter(logits.values())).shape[-1]
            return self.losses(logits, self.collect_targets(instances, side, x.device))
        classes = torch.cat([entry.pred_classes for entry in instances])
        self.store(self.layers(x), classes, instances)
        return instances

    def collect_targets(
        self, instances: list[Instances], side: int, device: torch.device
    ) -> MaskTargets:
        """Cut out the ground truth of the kinds that the head predicts."""
        return collect_targets(instances, self.loss_weights, side, device, self.invisible_target)

    def losses(self, logits: Mapping[str, Tensor], targets: MaskTargets) -> dict[str, Tensor]:
        """Compare the predictions of all kinds with the ground truth.

        Args:
            logits (dict[str, Tensor[N, K or 1, M, M]]): kind -> predictions.
            targets: the ground truth.

        Returns:
            dict[str, Tensor]: ``loss_<kind>_mask``, weighted.
        """
        result = {}
        for kind, weight in self.loss_weights.items():
            chosen = select_class(logits[kind], targets.classes)
            target, known = targets.masks[kind], targets.known[kind]
            log_mask_accuracy(kind, chosen, target, known)
            if kind == OCCLUDER and self.occluder_batch == "official":
                regions = occluder_regions(target)
                chosen, target, known = chosen[regions], target[regions], known[regions.cpu()]
            result[f"loss_{kind}_mask"] = weight * mask_loss(chosen, target, known)
        return result

    def store(
        self, logits: Mapping[str, Tensor], classes: Tensor, instances: list[Instances]
    ) -> None:
        """Add the predicted masks to the instances.

        Args:
            logits (dict[str, Tensor[N, K or 1, M, M]]): kind -> predictions.
            classes (Tensor[N]): predicted classes.
            instances: N regions of some images; changed.
        """
        counts = [len(entry) for entry in instances]
        for kind, values in logits.items():
            masks = select_class(values, classes)[:, None].float().sigmoid().split(counts)
            for entry, part in zip(instances, masks, strict=True):
                entry.set(PRED_FIELDS[kind], part)
                if kind == AMODAL:
                    entry.set(fields.PRED_MASKS, part)
