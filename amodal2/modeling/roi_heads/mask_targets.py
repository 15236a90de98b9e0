"""Ground truth of the mask heads: every kind of mask, cut out of the boxes of the regions.

Shapes: N regions of all images, M side of the predicted masks, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor

from amodal2.modeling.roi_heads.mask_kinds import AMODAL, GT_FIELDS, INVISIBLE, VISIBLE
from amodal2.structures import fields
from amodal2.structures.shared_masks import SharedMasks

INVISIBLE_TARGETS = ("difference", "official_xor")
"""How the invisible part is made of the two cut-out masks: amodal minus visible, or what only one
of them has (AISFormer, ORCNN), which counts visible cells outside the amodal mask as well."""


@dataclass
class MaskTargets:
    """What the regions of a batch are to predict.

    Attributes:
        classes (Tensor[N]): int64, contiguous class index.
        masks (dict[str, Tensor[N, M, M]]): kind -> float 0 or 1.
        known (dict[str, Tensor[N]]): kind -> bool on the CPU, False where the ground truth of the
            image lacks the kind; such regions take no part in its loss.
    """

    classes: Tensor
    masks: dict[str, Tensor]
    known: dict[str, Tensor]


def share_masks(instances: Instances) -> Instances:
    """Turn the mask tensors of a training sample into ``SharedMasks``.

    Args:
        instances: objects of one image as ``ImageMapper`` gives them.

    Returns:
        Instances: the same fields; ``gt_masks``, where it repeats the amodal masks, refers to them.
    """
    result = Instances(instances.image_size, **instances.get_fields())
    for field in GT_FIELDS.values():
        if result.has(field) and isinstance(result.get(field), Tensor):
            result.set(field, SharedMasks(result.get(field)))
    if result.has(fields.GT_MASKS) and result.has(fields.GT_AMODAL_MASKS):
        result.set(fields.GT_MASKS, result.get(fields.GT_AMODAL_MASKS))
    return result


def collect_targets(
    instances: Iterable[Instances],
    kinds: Iterable[str],
    side: int,
    device: torch.device,
    invisible: str = "difference",
) -> MaskTargets:
    """Cut the ground truth of every kind out of the boxes of the regions.

    Args:
        instances: foreground regions per image with ``proposal_boxes``, ``gt_classes`` and masks:
            bool tensors [N, H, W] or anything with ``crop_and_resize``. Without
            ``gt_amodal_masks``, ``gt_masks`` are taken for them.
        kinds: those wanted.
        side: M.
        device: of the results.
        invisible: one of ``INVISIBLE_TARGETS``.

    Returns:
        MaskTargets: see there.
    """
    wanted = set(kinds)
    cut = sorted((wanted - {INVISIBLE}) | ({AMODAL, VISIBLE} if INVISIBLE in wanted else set()))
    images = [entry for entry in instances if len(entry)]
    classes = [entry.gt_classes.to(device, torch.int64) for entry in images]
    masks: dict[str, list[Tensor]] = {kind: [] for kind in cut}
    known: dict[str, list[Tensor]] = {kind: [] for kind in cut}
    for entry in images:
        boxes = entry.proposal_boxes.tensor
        for kind in cut:
            source = _source(entry, kind)
            known[kind].append(torch.full((len(entry),), source is not None))
            if source is None:
                crops = torch.zeros((len(entry), side, side), device=device)
            else:
                crops = source.crop_and_resize(boxes, side).to(device, torch.float32)
            masks[kind].append(crops)
    targets = MaskTargets(
        torch.cat(classes) if classes else torch.zeros(0, dtype=torch.int64, device=device),
        {
            k: torch.cat(v) if v else torch.zeros((0, side, side)).to(device)
            for k, v in masks.items()
        },
        {k: torch.cat(v) if v else torch.zeros(0, dtype=torch.bool) for k, v in known.items()},
    )
    if INVISIBLE in wanted:
        amodal, visible = targets.masks[AMODAL], targets.masks[VISIBLE]
        difference = (amodal - visible).clamp(min=0)
        targets.masks[INVISIBLE] = (
            (amodal - visible).abs() if invisible == "official_xor" else difference
        )
        targets.known[INVISIBLE] = targets.known[AMODAL] & targets.known[VISIBLE]
    return targets


def _source(entry: Instances, kind: str) -> Any:
    """Return the masks of a kind as something that can be cropped; None if there are none."""
    names = (GT_FIELDS[kind], fields.GT_MASKS) if kind == AMODAL else (GT_FIELDS[kind],)
    for name in names:
        if entry.has(name):
            masks = entry.get(name)
            return SharedMasks(masks) if isinstance(masks, Tensor) else masks
    return None
