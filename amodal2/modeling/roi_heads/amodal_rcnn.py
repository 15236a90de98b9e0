"""Detectron2's two-stage detector with every kind of mask in its output."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import Instances
from torch import Tensor

from amodal2.modeling.roi_heads.mask_kinds import KINDS
from amodal2.modeling.roi_heads.mask_targets import share_masks
from amodal2.modeling.roi_heads.postprocess import amodal_postprocess

_INVISIBLE = ("head", "derived")
_MASK_HEAD = "roi_heads.mask_head."


@META_ARCH_REGISTRY.register()
class GeneralizedRCNNAmodal(GeneralizedRCNN):
    """``GeneralizedRCNN`` that shares ground-truth masks between regions and pastes every kind.

    The parameters and losses are those of ``GeneralizedRCNN``, in which the heads work as well;
    that one pastes the amodal masks (``pred_masks``) only. ROI heads with a stage behind them that
    needs the images (``complete``, as of ``TransferROIHeads``) have it in given boxes, too.
    """

    @configurable
    def __init__(
        self,
        *,
        output_kinds: tuple[str, ...] = KINDS,
        mask_threshold: float = 0.5,
        enforce_subset: bool = False,
        invisible: str = "head",
        with_gt_boxes: bool = False,
        mask_head_only: bool = False,
        **kwargs: Any,
    ) -> None:
        """Store the settings of the output.

        Args:
            output_kinds: kinds of masks to paste, of those that the head predicts.
            mask_threshold: lowest probability inside a mask.
            enforce_subset: add the visible masks to the amodal ones.
            invisible: "head" or "derived" (amodal minus visible).
            with_gt_boxes: in tests take boxes and classes of the samples' ``instances`` instead of
                detecting them.
            mask_head_only: train nothing but the mask head; features and boxes are those of a
                fixed detector.
            **kwargs: of ``GeneralizedRCNN``.

        Raises:
            ValueError: if a kind or a choice is unknown.
        """
        super().__init__(**kwargs)
        if not set(output_kinds) <= set(KINDS):
            raise ValueError(
                f"GeneralizedRCNNAmodal: expected kinds of {KINDS}, got {tuple(output_kinds)}"
            )
        if invisible not in _INVISIBLE:
            raise ValueError(
                f"GeneralizedRCNNAmodal: expected invisible masks by {_INVISIBLE}, got "
                f"{invisible!r}"
            )
        self.output: dict[str, Any] = {
            "kinds": tuple(output_kinds),
            "threshold": mask_threshold,
            "enforce_subset": enforce_subset,
            "invisible": invisible,
        }
        self.with_gt_boxes = with_gt_boxes
        self.mask_head_only = mask_head_only
        if mask_head_only:
            for name, parameter in self.named_parameters():
                if not name.startswith(_MASK_HEAD):
                    parameter.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        node = cfg.MODEL.AMODAL_RCNN
        return {
            **super().from_config(cfg),
            "output_kinds": tuple(node.OUTPUT_KINDS),
            "mask_threshold": node.MASK_THRESHOLD,
            "enforce_subset": node.ENFORCE_SUBSET,
            "invisible": node.INVISIBLE,
            "with_gt_boxes": node.INFERENCE_WITH_GT_BOXES,
            "mask_head_only": node.TRAIN_MASK_HEAD_ONLY,
        }

    def train(self, mode: bool = True) -> GeneralizedRCNNAmodal:
        """Switch to training or evaluation; what is fixed stays in evaluation."""
        super().train(mode)
        if self.mask_head_only:
            self.backbone.eval()
            self.proposal_generator.eval()
        return self

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Learn from images, or find their objects.

        Args:
            batched_inputs: samples of ``ImageMapper``: "image" (Tensor[3, H, W]), in training
                "instances", in tests "height" and "width" of the output (default: of the image).

        Returns:
            dict[str, Tensor] | list[dict]: in training the losses; else one dict per image with
            "instances": ``pred_boxes``, ``pred_classes``, ``scores`` and, bool [N, H, W],
            ``pred_<kind>_masks`` of each kind that was predicted and asked for.

        Raises:
            ValueError: if ground-truth boxes are to be used and a sample has none.
        """
        if self.training:
            batched_inputs = [
                {**sample, "instances": share_masks(sample["instances"])}
                for sample in batched_inputs
            ]
            if self.mask_head_only:
                return self._mask_losses(batched_inputs)
        return super().forward(batched_inputs)

    def _mask_losses(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the losses of the mask head in regions that the fixed detector proposes."""
        images = self.preprocess_image(samples)
        truth = [sample["instances"].to(self.device) for sample in samples]
        with torch.no_grad():
            features = self.backbone(images.tensor)
            proposals, _ = self.proposal_generator(images, features)
        regions = self.roi_heads.label_and_sample_proposals(proposals, truth)
        return self.roi_heads._forward_mask(features, regions)

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """Find the objects of images, or the masks in given boxes.

        Args:
            batched_inputs: see :meth:`forward`.
            detected_instances: per image ``pred_boxes`` (at the size of "image") and
                ``pred_classes``; None detects them.
            do_postprocess: False returns the masks inside the boxes, as the head gives them.

        Returns:
            list[dict] | list[Instances]: see :meth:`forward`; without post-processing the instances
            themselves.
        """
        if self.with_gt_boxes and detected_instances is None:
            detected_instances = [_true_boxes(sample) for sample in batched_inputs]
        results = super().inference(batched_inputs, detected_instances, do_postprocess=False)
        if detected_instances is not None and hasattr(self.roi_heads, "complete"):
            results = self.roi_heads.complete(self.preprocess_image(batched_inputs), results)
        if not do_postprocess:
            return results
        sizes = [
            (sample.get("height", found.image_size[0]), sample.get("width", found.image_size[1]))
            for sample, found in zip(batched_inputs, results, strict=True)
        ]
        return [
            {"instances": amodal_postprocess(found, *size, **self.output)}
            for found, size in zip(results, sizes, strict=True)
        ]


def _true_boxes(sample: dict[str, Any]) -> Instances:
    """Return the objects of a sample as if they had been detected with certainty."""
    if "instances" not in sample:
        raise ValueError(
            "GeneralizedRCNNAmodal: expected samples with 'instances' for "
            f"MODEL.AMODAL_RCNN.INFERENCE_WITH_GT_BOXES, got {sorted(sample)}"
        )
    truth = sample["instances"]
    return Instances(
        truth.image_size,
        pred_boxes=truth.gt_boxes.clone(),
        pred_classes=truth.gt_classes,
        scores=truth.gt_boxes.tensor.new_ones(len(truth)),
    )
