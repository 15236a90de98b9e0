"""From masks inside boxes to masks of the image, for every kind.

Shapes: N objects, M side of the masks inside the boxes, H W output image.
"""

from __future__ import annotations

from collections.abc import Collection

from detectron2.layers import paste_masks_in_image
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torch import Tensor

from amodal2.modeling.roi_heads.mask_kinds import AMODAL, INVISIBLE, KINDS, PRED_FIELDS, VISIBLE
from amodal2.structures import fields


def amodal_postprocess(
    results: Instances,
    height: int,
    width: int,
    kinds: Collection[str] = KINDS,
    *,
    threshold: float = 0.5,
    enforce_subset: bool = False,
    invisible: str = "head",
) -> Instances:
    """Scale the boxes to the output and paste the masks of the wanted kinds into them.

    A kind that was not predicted stays absent; no mask is made up for it.

    Args:
        results: N objects of an image at the size that the detector saw, with ``pred_boxes`` and
            ``pred_<kind>_masks`` (Tensor[N, 1, M, M] in [0, 1]).
        height: H.
        width: W.
        kinds: those to paste; the others are dropped.
        threshold: lowest probability inside a mask.
        enforce_subset: add the visible mask to the amodal one, so that it lies inside.
        invisible: "head" pastes what the head predicts, "derived" takes amodal minus visible.

    Returns:
        Instances: objects with a box left inside the image, masks bool [N, H, W]; ``pred_masks``
        are the amodal masks.
    """
    soft = {kind: name for kind, name in PRED_FIELDS.items() if results.has(name)}
    results = Instances(results.image_size, **results.get_fields())
    if results.has(fields.PRED_MASKS) and AMODAL in soft:
        results.remove(fields.PRED_MASKS)  # pasted once, below
    results = detector_postprocess(results, height, width, threshold)
    derive = INVISIBLE in kinds and invisible == "derived" and {AMODAL, VISIBLE} <= soft.keys()
    wanted = {kind for kind in kinds if kind != INVISIBLE or invisible == "head"}
    if derive or enforce_subset:
        wanted |= {AMODAL, VISIBLE}
    pasted: dict[str, Tensor] = {}
    for kind, name in soft.items():
        if kind in wanted:
            pasted[kind] = paste_masks_in_image(
                results.get(name)[:, 0], results.pred_boxes, (height, width), threshold
            ).bool()
        results.remove(name)
    if enforce_subset and {AMODAL, VISIBLE} <= pasted.keys():
        pasted[AMODAL] |= pasted[VISIBLE]
    if derive:
        pasted[INVISIBLE] = pasted[AMODAL] & ~pasted[VISIBLE]
    for kind in pasted.keys() & set(kinds):
        results.set(PRED_FIELDS[kind], pasted[kind])
    if AMODAL in pasted and AMODAL in kinds:
        results.set(fields.PRED_MASKS, pasted[AMODAL])
    return results
