"""Keys of the amodal ROI heads."""

from detectron2.config import CfgNode


def add_roi_heads_config(cfg: CfgNode) -> None:
    """Add ``MODEL.ROI_MASK_HEAD``, ``MODEL.AMODAL_RCNN`` keys and those of single heads.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    _add_mask_head_config(cfg)
    _add_output_config(cfg)
    _add_aisformer_config(cfg)
    _add_bcnet_config(cfg)
    _add_vrsp_config(cfg)
    _add_track_rcnn_config(cfg)
    _rename_official_keys(cfg)


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
    # (AISFormer, ORCNN): what only one of the two has, so visible cells outside the amodal mask,
    # too.
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
    # True trains the mask head alone; features and boxes are those of MODEL.WEIGHTS and stay.
    node.TRAIN_MASK_HEAD_ONLY = False


def _add_aisformer_config(cfg: CfgNode) -> None:
    cfg.MODEL.AISFORMER = CfgNode()
    node = cfg.MODEL.AISFORMER
    # Layers of the encoder and of the decoder (AISFormer Sec. 4: 1).
    node.N_LAYERS = 1
    # Attention heads.
    node.N_HEADS = 2
    # Channels; the official weights have 256.
    node.EMB_DIM = 256
    # Hidden width of the feed-forward networks.
    node.DIM_FEEDFORWARD = 2048
    # True makes the invisible embedding of the amodal and the visible one (JUSTIFY_LOSS in the
    # source), False takes the fourth query.
    node.INVISIBLE_EMBED = True


def _add_bcnet_config(cfg: CfgNode) -> None:
    cfg.MODEL.BCNET = CfgNode()
    # Mask that the occludee branch learns: "amodal", or "visible" as in the paper.
    cfg.MODEL.BCNET.TARGET = "amodal"
    # Weight of the boundary losses of occludee and occluder (the source adds 0.5 of a loss twice).
    cfg.MODEL.BCNET.BOUNDARY_WEIGHT = 1.0


def _add_vrsp_config(cfg: CfgNode) -> None:
    cfg.MODEL.VRSP = CfgNode()
    node = cfg.MODEL.VRSP
    # True lets the refinement read typical shapes of the class.
    node.SHAPE_PRIOR = True
    # File of shapes (tools/build_shape_codebook.py); "" takes what the auto-encoder makes of the
    # coarse mask, as the source does for classes without shapes.
    node.SHAPES = ""
    # Shapes per region (VRSP: 16).
    node.NEIGHBOURS = 16
    # What is encoded to look shapes up: "probability", or "official_logits", which the auto-encoder
    # has never seen in its training; the released weights were trained with them.
    node.CODE_INPUT = "probability"
    # Weight of the losses of the pass that attends to the true masks (GT_AMODAL_WEIGHT and
    # GT_VISIBLE_WEIGHT in the source).
    node.GUIDED_WEIGHT = 1.0
    # Weights of feature matching after the last convolution and after the upsampling
    # (AMODAL_FM_BETA in the source).
    node.MATCHING_WEIGHTS = (0.01, 0.05)
    # Base of the rescoring by the nearest shape (ALPHA in the source: 3), above 1; 0 for none.
    node.RESCORE_ALPHA = 0.0
    node.RECLASSIFIER = CfgNode()
    # True adds the re-classifier (RECLS_NET in the source), a second opinion on the class of what
    # is visible. It reads the refined visible mask as a probability; the source multiplies the
    # features by raw logits.
    node.RECLASSIFIER.ENABLED = False
    # Channels of its 3x3 convolutions; the widths of the source's network could not be looked up.
    node.RECLASSIFIER.CONV_DIMS = (256, 256)
    # Widths of its fully connected layers before the last one.
    node.RECLASSIFIER.FC_DIMS = (1024,)
    # Weight of its loss on features inside the true visible masks (GT_WEIGHT in the source).
    node.RECLASSIFIER.TRUTH_WEIGHT = 0.1
    # True multiplies scores by 0.6 + 0.4 times its probability of the class (RESCORING in the
    # source, off in all of its configs).
    node.RECLASSIFIER.RESCORING = False


def _rename_official_keys(cfg: CfgNode) -> None:
    """Let the names of the official configs stop with those that they have here."""
    cfg.register_renamed_key(
        "MODEL.AISFormer",
        "MODEL.AISFORMER",
        message="JUSTIFY_LOSS is INVISIBLE_EMBED; leave out USE, MASK_LOSS_ONLY, BO_LOSS and "
        "AMODAL_EVAL",
    )
    cfg.register_renamed_key("AISTRON", "MODEL.AMODAL_RCNN")


def _add_track_rcnn_config(cfg: CfgNode) -> None:
    cfg.MODEL.TRACK_RCNN = CfgNode()
    node = cfg.MODEL.TRACK_RCNN
    # Numbers per embedding of a region (MaskTrack R-CNN: 1024).
    node.HIDDEN_DIM = 1024
    # Weight of the loss of the embeddings.
    node.LOSS_WEIGHT = 1.0
    # What speaks for a track beside the embeddings (MaskTrack R-CNN Sec. 3.4: 1, 2, 10): weight of
    # the logarithm of the detection's score.
    node.SCORE_WEIGHT = 1.0
    # Weight of the overlap with the latest box of the track.
    node.IOU_WEIGHT = 2.0
    # Added if the class is that of the track.
    node.CLASS_WEIGHT = 10.0
