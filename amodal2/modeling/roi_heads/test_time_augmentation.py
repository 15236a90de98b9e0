"""Averaging over resized and mirrored versions of an image, for every kind of mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import HFlipTransform
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.structures import Instances
from torch import nn

from amodal2.modeling.roi_heads.amodal_rcnn import GeneralizedRCNNAmodal
from amodal2.modeling.roi_heads.mask_kinds import AMODAL, PRED_FIELDS
from amodal2.modeling.roi_heads.postprocess import amodal_postprocess
from amodal2.modeling.roi_heads.track_rcnn import AmodalTrackRCNN
from amodal2.structures import fields


class GeneralizedRCNNAmodalWithTTA(GeneralizedRCNNWithTTA):
    """Detectron2's test-time augmentation around a ``GeneralizedRCNNAmodal``.

    ``TEST.AUG`` has the sizes. Boxes of all versions are merged by non-maximum suppression; then
    every version predicts the masks in the merged boxes, which are averaged kind by kind.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, **options: Any) -> None:
        """Wrap a model.

        Args:
            cfg: configuration with ``TEST.AUG``.
            model: a ``GeneralizedRCNNAmodal``.
            **options: of ``GeneralizedRCNNWithTTA``.

        Raises:
            ValueError: if it is another model, or its masks cannot be averaged in given boxes.
        """
        name = type(model).__name__
        if not isinstance(model, GeneralizedRCNNAmodal) or isinstance(model, AmodalTrackRCNN):
            raise ValueError(
                f"{type(self).__name__}: expected MODEL.META_ARCHITECTURE "
                f"GeneralizedRCNNAmodal, got {name}; set TEST.AUG.ENABLED False"
            )
        if model.with_gt_boxes:
            raise ValueError(
                f"{type(self).__name__}: expected MODEL.AMODAL_RCNN.INFERENCE_WITH_GT_BOXES False, "
                "got True: true boxes need no augmentation; set TEST.AUG.ENABLED False"
            )
        if hasattr(model.roi_heads, "complete"):
            raise ValueError(
                f"{type(self).__name__}: expected masks inside the boxes of the detector, "
                f"got {type(model.roi_heads).__name__}, whose boxes follow the masks; set "
                "TEST.AUG.ENABLED False"
            )
        super().__init__(cfg, model, **options)

    def _inference_one_image(self, input: dict[str, Any]) -> dict[str, Instances]:
        """Return "instances" of one sample with "image", "height" and "width"."""
        size = (input["height"], input["width"])
        inputs, transforms = self._get_augmented_inputs(input)
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            detected = self._get_augmented_boxes(inputs, transforms)
        merged = self._merge_detections(*detected, size)
        if self.cfg.MODEL.MASK_ON:
            given = self._rescale_detected_boxes(inputs, merged, transforms)
            average_masks(merged, self._batch_inference(inputs, given), transforms)
            merged = amodal_postprocess(merged, *size, **self.model.output)
        return {"instances": merged}


def average_masks(
    merged: Instances, outputs: Sequence[Instances], transforms: Sequence[Any]
) -> None:
    """Average the masks of several versions of an image, of each kind that was predicted.

    Args:
        merged: N objects; gets the means.
        outputs: per version the N objects with ``pred_<kind>_masks`` [N, 1, M, M].
        transforms: per version Detectron2's list of transforms; mirrored masks are turned back.
    """
    for kind, name in PRED_FIELDS.items():
        if not all(output.has(name) for output in outputs):
            continue
        masks = []
        for output, transform in zip(outputs, transforms, strict=True):
            mirrored = any(isinstance(part, HFlipTransform) for part in transform.transforms)
            masks.append(output.get(name).flip(3) if mirrored else output.get(name))
        mean = torch.stack(masks).mean(dim=0)
        merged.set(name, mean)
        if kind == AMODAL:
            merged.set(fields.PRED_MASKS, mean)
