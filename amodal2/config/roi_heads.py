"""Keys of the amodal ROI heads."""

from detectron2.config import CfgNode


def add_roi_heads_config(cfg: CfgNode) -> None:
    """Add ``MODEL.ROI_MASK_HEAD``, ``MODEL.AMODAL_RCNN`` keys and those of single heads.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    _add_mask_head_config(cfg)
    _add_output_config(cfg)


def _add_mask_head_config(cfg: CfgNode) -> None:
    head = cfg.MODEL.ROI_MASK_HEAD
    # Weight of the loss of a kind of mask; below 0 the head's own, which is that of its source.
    head.LOSS_WEIGHTS = CfgNode()
    # The same for the whole object.
    head.LOSS_WEIGHTS.AMODAL = -1.0
    # The same for the part that the camera sees.
    head.LOSS_WEIGHTS.VISIBLE = -1.0
    # The same for what lies over the object.
    head.LOSS_WEIGHTS.OCCLUDER = -1.0
    # The same for the hidden part.
    head.LOSS_WEIGHTS.INVISIBLE = -1.0
    # Target of the invisible masks: "difference" (amodal minus visible), or "official_xor"
    # (AISFormer, ORCNN): what only one of the two has, so visible cells outside the amodal mask too.
    head.INVISIBLE_TARGET = "difference"
    # Regions of the occluder loss: "all", or "official" (AISFormer, BCNet): those with an occluder
    # and as many from the start of the batch.
    head.OCCLUDER_BATCH = "all"


def _add_output_config(cfg: CfgNode) -> None:
    cfg.MODEL.AMODAL_RCNN = CfgNode()
    node = cfg.MODEL.AMODAL_RCNN
    # Kinds of masks in the output, of "amodal", "visible", "occluder" and "invisible"; those that
    # the head does not predict are left out. The evaluator derives invisible masks itself.
    node.OUTPUT_KINDS = ("amodal", "visible", "occluder")
    # Lowest probability inside a mask.
    node.MASK_THRESHOLD = 0.5
    # True adds the visible mask to the amodal one, so that it lies inside.
    node.ENFORCE_SUBSET = False
    # Invisible masks in the output: "head" (as predicted) or "derived" (amodal minus visible).
    node.INVISIBLE = "head"
    # True takes boxes and classes of the ground truth in tests; only masks are predicted.
    node.INFERENCE_WITH_GT_BOXES = False
