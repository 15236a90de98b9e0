"""Kinds of masks that the heads know, and the ``Instances`` fields that hold them."""

from __future__ import annotations

from amodal2.structures import fields

AMODAL, VISIBLE, OCCLUDER, INVISIBLE = "amodal", "visible", "occluder", "invisible"

KINDS = (AMODAL, VISIBLE, OCCLUDER, INVISIBLE)
"""Every kind."""

GT_FIELDS = {
    AMODAL: fields.GT_AMODAL_MASKS,
    VISIBLE: fields.GT_VISIBLE_MASKS,
    OCCLUDER: fields.GT_OCCLUDER_MASKS,
}
"""Kind -> field of the ground truth; the invisible part is amodal minus visible."""

PRED_FIELDS = {
    AMODAL: fields.PRED_AMODAL_MASKS,
    VISIBLE: fields.PRED_VISIBLE_MASKS,
    OCCLUDER: fields.PRED_OCCLUDER_MASKS,
    INVISIBLE: fields.PRED_INVISIBLE_MASKS,
}
"""Kind -> field of the predictions."""
