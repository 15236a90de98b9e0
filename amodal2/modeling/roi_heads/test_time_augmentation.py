"""Averaging over resized and mirrored versions of an image, for every kind of mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.data.transforms import HFlipTransform
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.structures import Instances

from amodal2.modeling.roi_heads.mask_kinds import AMODAL, PRED_FIELDS
from amodal2.modeling.roi_heads.postprocess import amodal_postprocess
from amodal2.structures import fields


class GeneralizedRCNNAmodalWithTTA(GeneralizedRCNNWithTTA):
    """Detectron2's test-time augmentation around a ``GeneralizedRCNNAmodal``.

    ``TEST.AUG`` has the sizes. Boxes of all versions are merged by non-maximum suppression; then
    every version predicts the masks in the merged boxes, which are averaged kind by kind.
    """

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
