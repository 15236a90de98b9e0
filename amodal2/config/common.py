"""Keys that every system shares: sampling, test-time rules, solver and further backbones."""

from detectron2.config import CfgNode


def add_common_config(cfg: CfgNode) -> None:
    """Add ``INPUT.AMODAL``, ``TEST.AMODAL``, ``SOLVER``, ``MODEL.TIMM``, ``MODEL.SWIN`` and more.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    _add_dataset_config(cfg)
    _add_execution_config(cfg)
    _add_input_config(cfg)
    _add_test_config(cfg)
    _add_solver_config(cfg)
    _add_timm_config(cfg)
    _add_swin_config(cfg)


def _add_dataset_config(cfg: CfgNode) -> None:
    # Weight of each of DATASETS.TRAIN when a training sample is drawn, whatever its size; the sets
    # need the same classes. VITA mixes videos with clips made of COCO's images so, see
    # INPUT.AMODAL.PSEUDO. Empty: every sample of all sets comes once per pass.
    cfg.DATASETS.DATASET_RATIO = ()


def _add_execution_config(cfg: CfgNode) -> None:
    # Parts whose activations are not kept in training but computed again in the backward pass, any
    # of "backbone" (its blocks), "pixel_decoder" (its encoder layers) and "samh" (clip by clip).
    # The gradients stay the same; parts that are not trained keep nothing anyway.
    cfg.MODEL.RECOMPUTE = ()
    # Parts that torch.compile compiles, any of the same names. Compiling takes minutes (3 on one
    # core for backbone and pixel decoder of the quick A2VIS, then 1.2 times as fast). Ignored with
    # a warning where the compiler is missing.
    cfg.MODEL.COMPILE = ()


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
    cfg.INPUT.AMODAL.PSEUDO = CfgNode()
    # True turns videos of one frame, as of COCO, into clips under a moving camera (VITA trains on
    # such clips); without it their frame is repeated.
    cfg.INPUT.AMODAL.PSEUDO.ENABLED = False
    # Largest rotation of the image to either side, in degrees (VITA: 15).
    cfg.INPUT.AMODAL.PSEUDO.ROTATION = 15.0
    # Magnifications lie in [1 - ZOOM, 1 + ZOOM]; below 1.
    cfg.INPUT.AMODAL.PSEUDO.ZOOM = 0.2
    # Largest displacement along each axis, as a share of the image's size.
    cfg.INPUT.AMODAL.PSEUDO.SHIFT = 0.1
    # Image mapper: objects with fewer visible pixels (after augmentation) are dropped; 0 keeps
    # fully hidden objects.
    cfg.INPUT.AMODAL.MIN_VISIBLE_AREA = 0
    # Image mapper: box that detectors learn, "amodal", or "visible", which drops fully hidden
    # objects.
    cfg.INPUT.AMODAL.BOX = "amodal"
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
    # Object patch mapper: how often an epoch of training has each object of which at least a tenth
    # is hidden; the others come once.
    cfg.INPUT.AMODAL.PATCH_HIDDEN_REPEAT = 1
    # Copy-paste mapper: least short side in pixels of the complete objects that are pasted.
    cfg.INPUT.AMODAL.PASTE_MIN_SIDE = 32
    # Copy-paste mapper: smallest and largest number of pasted objects per image.
    cfg.INPUT.AMODAL.PASTE_COUNT = (1, 4)
    # Copy-paste mapper: smallest and largest factor on their size.
    cfg.INPUT.AMODAL.PASTE_SCALE = (0.6, 1.4)
    # Copy-paste mapper: share in [0, 1) up to which an object may be hidden by pasted ones.
    cfg.INPUT.AMODAL.PASTE_MOST_HIDDEN = 0.9
    # Object clip mapper: "clip" brings the frames to the scale of the largest crop (C2F-Seg),
    # "frame" gives each frame the whole patch, as the completer does.
    cfg.INPUT.AMODAL.PATCH_SCALE = "clip"
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
    # Parts into which every process splits its share of IMS_PER_BATCH; they pass the model one
    # after another and their gradients are added up, so that memory is needed for one part. The
    # batch stays IMS_PER_BATCH, with its losses, learning rate and schedule; trainable batch
    # normalisation sees the parts.
    cfg.SOLVER.ACCUMULATE = 1
    # Batch that BASE_LR and the schedule are made for: another IMS_PER_BATCH, k times as large,
    # multiplies the learning rate and divides MAX_ITER, STEPS, WARMUP_ITERS, CHECKPOINT_PERIOD and
    # TEST.EVAL_PERIOD by k. 0 takes them as they are; Detectron2's REFERENCE_WORLD_SIZE is not
    # read.
    cfg.SOLVER.REFERENCE_BATCH = 0
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
