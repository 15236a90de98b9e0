"""Keys that every system shares: sampling, test-time rules, solver and further backbones."""

from detectron2.config import CfgNode


def add_common_config(cfg: CfgNode) -> None:
    """Add ``INPUT.AMODAL``, ``TEST.AMODAL``, ``SOLVER``, ``MODEL.TIMM`` and ``MODEL.SWIN`` keys.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    _add_input_config(cfg)
    _add_test_config(cfg)
    _add_solver_config(cfg)
    _add_timm_config(cfg)
    _add_swin_config(cfg)


def _add_input_config(cfg: CfgNode) -> None:
    cfg.INPUT.AMODAL = CfgNode()
    # Name of the mapper in AMODAL_MAPPER_REGISTRY that turns a dataset dict into a training sample.
    cfg.INPUT.AMODAL.MAPPER = "ClipMapper"
    # N_c, frames per clip (A2VIS Sec. 4.6.2 uses 3). 1 with NUM_CLIPS 1 trains on single frames.
    cfg.INPUT.AMODAL.CLIP_LEN = 3
    # Clips per training sample; a sample holds NUM_CLIPS * CLIP_LEN frames of one video.
    cfg.INPUT.AMODAL.NUM_CLIPS = 5
    # Frames of a sample are drawn within +- this many frames of a random reference frame (GenVIS:
    # 12); negative draws from the whole video.
    cfg.INPUT.AMODAL.FRAME_RANGE = 12
    # An object counts as seen from the first frame with at least this many visible pixels (after
    # augmentation).
    cfg.INPUT.AMODAL.MIN_VISIBLE_PX = 1
    # Strength in [0, 1] of random brightness, contrast and saturation changes, shared by the frames
    # of a sample.
    cfg.INPUT.AMODAL.COLOR_JITTER = 0.0
    # Image mapper: objects with fewer visible pixels (after augmentation) are dropped; 0 keeps
    # fully hidden objects.
    cfg.INPUT.AMODAL.MIN_VISIBLE_AREA = 0
    # Image mapper: "all_neighbours" (AISFormer, BCNet: every overlapping object, nearer or not),
    # "front_only" (needs the annotations' order) or "precomputed" (occluder_segm of the file).
    cfg.INPUT.AMODAL.OCCLUDER = "all_neighbours"
    # Object patch mapper: height and width of a patch in pixels (C2F-Seg: 256).
    cfg.INPUT.AMODAL.PATCH_SIZE = 256
    # Object patch mapper: in training the box of an object is enlarged by a factor drawn from this
    # range (C2F-Seg on KINS and COCOA).
    cfg.INPUT.AMODAL.PATCH_ENLARGE = (1.5, 3.0)
    # Object patch mapper: factor in tests (C2F-Seg).
    cfg.INPUT.AMODAL.PATCH_ENLARGE_TEST = 2.0
    # Object patch mapper: box that is enlarged, "visible" or "amodal".
    cfg.INPUT.AMODAL.PATCH_BOX = "visible"
    # Object mappers: how training changes the visible masks that the model is given: "none", or
    # C2F-Seg's dilation, erosion and blur for "kins", "cocoa" or "video".
    cfg.INPUT.AMODAL.PATCH_NOISE = "none"
    # Object track mapper: the region around an object in the CLIP_LEN frames of a sample is its
    # visible boxes, enlarged by this factor (at least 1) ...
    cfg.INPUT.AMODAL.TRACK_ENLARGE = 2.0
    # ... and by this many pixels on each side.
    cfg.INPUT.AMODAL.TRACK_MARGIN = 8
    # Object track mapper: optical flow of data without, "auto" (RAFT if torchvision's weights are
    # there, else DIS), "raft" or "dis".
    cfg.INPUT.AMODAL.FLOW = "auto"


def _add_test_config(cfg: CfgNode) -> None:
    cfg.TEST.AMODAL = CfgNode()
    # Tracks kept per video, the best (slot, class) pairs by class score.
    cfg.TEST.AMODAL.TOPK = 20
    # Amodal masks are empty before the first frame whose visible mask has this many pixels (A2VIS
    # Sec. 3.1).
    cfg.TEST.AMODAL.MIN_VISIBLE_PX = 1
    # True adds the visible mask to the amodal mask of each frame.
    cfg.TEST.AMODAL.UNION_VISIBLE = False
    # True multiplies the class score of a track by the mean probability inside its masks (VITA);
    # False leaves it alone (Mask2Former-VIS, MinVIS).
    cfg.TEST.AMODAL.MASK_QUALITY = True
    # True runs inference under bfloat16 autocast.
    cfg.TEST.AMODAL.AMP = False
    # By whose rules the evaluator of images scores: "coco" (AP and AR of amodal, visible and
    # invisible masks and boxes), "cocoa" (COCOA's class-agnostic amodalAPI), "kins" (Det, Amodal
    # and Inmodal AP) or "completion" (mean IoU of systems that are given the objects' visible
    # masks).
    cfg.TEST.AMODAL.IMAGE_PROTOCOL = "coco"
    # Rules whose occlusion bins get rows of their own under "coco", any of "cocoa", "tao_amodal",
    # "vrsp", "a2vis" and "fishbowl" (evaluation/image_occlusion.py); () adds none.
    cfg.TEST.AMODAL.IMAGE_OCCLUSION = ("cocoa",)
    # What the evaluator of videos computes: "ap" (AP and AR over tubes), "hota" (HOTA, CLEAR and
    # identity metrics: HOTA, DetA, AssA, IDF1, MOTA, identity switches).
    cfg.TEST.AMODAL.VIDEO_METRICS = ["ap", "hota"]
    # Whether it also compares amodal boxes (A2VIS, Table 3).
    cfg.TEST.AMODAL.VIDEO_BOXES = False
    # Lowest score in [0, 1] of the tracks that count for "hota"; AP takes all of them.
    cfg.TEST.AMODAL.TRACKING_SCORE_THRESHOLD = 0.0


def _add_solver_config(cfg: CfgNode) -> None:
    # "ADAMW" or "SGD" (with SOLVER.MOMENTUM).
    cfg.SOLVER.OPTIMIZER = "ADAMW"
    # Decay rates of the moments of ADAMW.
    cfg.SOLVER.ADAMW_BETAS = (0.9, 0.999)
    # Added to the root of ADAMW's second moment.
    cfg.SOLVER.ADAMW_EPS = 1e-8
    # Learning rate at the end of WarmupCosineLR.
    cfg.SOLVER.BASE_LR_END = 0.0
    # Numbered checkpoints kept in OUTPUT_DIR, the newest ones; 0 keeps all.
    cfg.SOLVER.CHECKPOINTS_KEPT = 0
    # Learning rate factor of parameters whose name starts with "backbone." (Mask2Former: 0.1).
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
    # Weight decay of embedding tables (Mask2Former: 0).
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0


def _add_timm_config(cfg: CfgNode) -> None:
    cfg.MODEL.TIMM = CfgNode()
    # Name of any timm model that supports features_only, for MODEL.BACKBONE.NAME
    # build_timm_backbone.
    cfg.MODEL.TIMM.NAME = "resnet18"
    # True starts from timm's published weights, which are downloaded at first use.
    cfg.MODEL.TIMM.PRETRAINED = False
    # Indices into the model's feature pyramid that become res2, res3, res4, res5 (strides 4, 8, 16,
    # 32).
    cfg.MODEL.TIMM.OUT_INDICES = (1, 2, 3, 4)
    # True keeps batch normalisation at its stored statistics and does not train it. False trains it
    # on the statistics of the whole batch, over all processes.
    cfg.MODEL.TIMM.FREEZE_BN = False


def _add_swin_config(cfg: CfgNode) -> None:
    cfg.MODEL.SWIN = CfgNode()
    # Channels of the finest level, for MODEL.BACKBONE.NAME build_swin_backbone: 96 (Swin-T and
    # Swin-S), 128 (Swin-B) or 192 (Swin-L). The defaults are those of Swin-T.
    cfg.MODEL.SWIN.EMBED_DIM = 96
    # Blocks of the four stages; from Swin-S on the third one has 18.
    cfg.MODEL.SWIN.DEPTHS = (2, 2, 6, 2)
    # Attention heads of the four stages, EMBED_DIM / 32 in the first.
    cfg.MODEL.SWIN.NUM_HEADS = (3, 6, 12, 24)
    # Patches of 4x4 pixels per side of an attention window: 7, or 12 for weights of 384x384 images.
    cfg.MODEL.SWIN.WINDOW_SIZE = 7
    # Stochastic depth of the last block, in [0, 1) (Mask2Former: 0.3); rises linearly from 0.
    cfg.MODEL.SWIN.DROP_PATH_RATE = 0.3
