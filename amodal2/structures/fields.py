"""Names of the ``Instances`` fields; every part of the project takes them from here.

Dimensions: N instances, H W image. Masks are boolean ``[N, H, W]``, boxes are ``Boxes`` with
corners (x0, y0, x1, y1) in pixels. The invisible part of an object is amodal minus visible: it is
computed where it is needed and has a field only for heads that predict it.
"""

from __future__ import annotations

GT_CLASSES = "gt_classes"
"""int64 [N], contiguous class index."""
GT_IDS = "gt_ids"
"""int64 [N], track id, the same in all frames of a video, from 1."""
GT_BOXES = "gt_boxes"
"""Boxes [N] that Detectron2's heads read: the amodal boxes; visible ones where those lack."""
GT_MASKS = "gt_masks"
"""Masks [N] that Detectron2's heads read: the amodal masks."""
GT_VISIBLE_MASKS = "gt_visible_masks"
"""The part of each object that the camera sees."""
GT_AMODAL_MASKS = "gt_amodal_masks"
"""The whole object inside the frame, hidden parts included."""
GT_OCCLUDER_MASKS = "gt_occluder_masks"
"""The union of the nearer objects that lie over each object."""
GT_VISIBLE_BOXES = "gt_visible_boxes"
"""Tight boxes of the visible masks."""
GT_AMODAL_BOXES = "gt_amodal_boxes"
"""Tight boxes of the amodal masks."""

PRED_CLASSES = "pred_classes"
"""int64 [N], contiguous class index."""
PRED_IDS = "pred_ids"
"""int64 [N], predicted track id."""
SCORES = "scores"
"""float [N] in [0, 1]."""
PRED_BOXES = "pred_boxes"
"""Boxes [N] that Detectron2's code reads: the amodal boxes."""
PRED_MASKS = "pred_masks"
"""Masks [N] that Detectron2's code reads: the amodal masks."""
PRED_VISIBLE_MASKS = "pred_visible_masks"
"""Predicted visible masks."""
PRED_AMODAL_MASKS = "pred_amodal_masks"
"""Predicted amodal masks."""
PRED_OCCLUDER_MASKS = "pred_occluder_masks"
"""Predicted masks of the nearer objects over each object."""
PRED_INVISIBLE_MASKS = "pred_invisible_masks"
"""Predicted hidden parts, only of heads that predict them directly."""
