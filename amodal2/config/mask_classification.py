"""Keys of the query-mask parts that systems share; names follow the official configs."""

from detectron2.config import CfgNode


def add_mask_classification_config(cfg: CfgNode) -> None:
    """Add ``MODEL.SEM_SEG_HEAD``, ``MODEL.MASK_FORMER`` and ``MODEL.VITA`` keys.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    _add_pixel_decoder_config(cfg)
    _add_mask_former_config(cfg)
    _add_vita_config(cfg)


def _add_pixel_decoder_config(cfg: CfgNode) -> None:
    head = cfg.MODEL.SEM_SEG_HEAD
    # Backbone features from fine to coarse; the coarsest three enter the deformable encoder.
    head.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    # Object classes without "no object".
    head.NUM_CLASSES = 80
    # Channels of the pixel decoder; a multiple of 32 (GroupNorm with 32 groups).
    head.CONVS_DIM = 256
    # Channels of the per-pixel mask features.
    head.MASK_DIM = 256
    # Normalisation of the FPN convolutions: "GN", or "" for none.
    head.NORM = "GN"
    # Deformable encoder layers (Mask2Former: 6).
    head.TRANSFORMER_ENC_LAYERS = 6
    # Hidden width of the encoder's feed-forward layers (fixed to 1024 in the official code).
    head.TRANSFORMER_ENC_DIM_FEEDFORWARD = 1024
    # Sampling points per head and level (fixed to 4 in the official code).
    head.TRANSFORMER_ENC_POINTS = 4
    # True lets autocast reach the pixel decoder; the official code keeps it in float32.
    head.AMP = False


def _add_mask_former_config(cfg: CfgNode) -> None:
    cfg.MODEL.MASK_FORMER = CfgNode()
    mf = cfg.MODEL.MASK_FORMER
    # Attention heads of pixel decoder and mask decoder.
    mf.NHEADS = 8
    # Frame queries fQ.
    mf.NUM_OBJECT_QUERIES = 100
    # Width of the queries.
    mf.HIDDEN_DIM = 256
    # Hidden width of the mask decoder's feed-forward layers.
    mf.DIM_FEEDFORWARD = 2048
    # Predictions of the mask decoder, one more than its layers (official convention: 10 means 9
    # layers).
    mf.DEC_LAYERS = 10
    # True adds 1x1 projections before the mask decoder even if the widths agree.
    mf.ENFORCE_INPUT_PROJ = False
    # Dropout of the attention and feed-forward layers, in [0, 1).
    mf.DROPOUT = 0.0
    # Weight of the "no object" class in the cross entropy.
    mf.NO_OBJECT_WEIGHT = 0.1
    # Loss and matching-cost weight of the class term.
    mf.CLASS_WEIGHT = 2.0
    # Loss and matching-cost weight of the mask cross entropy.
    mf.MASK_WEIGHT = 5.0
    # Loss and matching-cost weight of the dice term.
    mf.DICE_WEIGHT = 5.0
    # True adds losses to the output of every decoder layer.
    mf.DEEP_SUPERVISION = True
    # Points per mask at which losses and matching costs are evaluated.
    mf.TRAIN_NUM_POINTS = 12544
    # Factor of candidate points from which the most uncertain are kept.
    mf.OVERSAMPLE_RATIO = 3.0
    # Share of the loss points chosen by uncertainty, in [0, 1].
    mf.IMPORTANCE_SAMPLE_RATIO = 0.75
    # Input sizes are padded to a multiple of this.
    mf.SIZE_DIVISIBILITY = 32
    # Folder in which the outputs of a fixed detector are kept in half precision, computed before
    # the first iteration and read in training and evaluation instead of running it; "" runs it.
    # Needs FREEZE_DETECTOR True, one size and no flip, crop or colour change.
    mf.CACHE_DIR = ""


def _add_vita_config(cfg: CfgNode) -> None:
    cfg.MODEL.VITA = CfgNode()
    vita = cfg.MODEL.VITA
    # Attention heads of the object encoder and decoder.
    vita.NHEADS = 8
    # Hidden width of their feed-forward layers.
    vita.DIM_FEEDFORWARD = 2048
    # Object encoder layers over the frame queries (VITA Sec. 3.2).
    vita.ENC_LAYERS = 6
    # Object decoder layers.
    vita.DEC_LAYERS = 3
    # Frames per attention window of the object encoder; 0 attends over all frames.
    vita.ENC_WINDOW_SIZE = 0
    # When odd encoder layers shift their windows by half: "test" (official: plain windows in
    # training), "always" or "never".
    vita.ENC_WINDOW_SHIFT = "test"
    # Width of the clip queries.
    vita.HIDDEN_DIM = 256
    # Clip queries cQ; the number of global prototypes N_p in A2VIS.
    vita.NUM_OBJECT_QUERIES = 100
    # True adds a linear layer between frame queries and object encoder even if the widths agree.
    vita.ENFORCE_INPUT_PROJ = True
    _add_clip_loss_config(vita)


def _add_clip_loss_config(vita: CfgNode) -> None:
    # The remaining keys are those of VITA and GenVIS; A2VIS does not read them.
    # Layers at the end of the mask decoder whose frame queries are learnt from.
    vita.LAST_LAYER_NUM = 3
    # Weight of the "no object" class in the cross entropy of the clip queries.
    vita.NO_OBJECT_WEIGHT = 0.1
    # Loss and matching-cost weight of the class term.
    vita.CLASS_WEIGHT = 2.0
    # Loss and matching-cost weight of the mask cross entropy.
    vita.MASK_WEIGHT = 5.0
    # Loss and matching-cost weight of the dice term.
    vita.DICE_WEIGHT = 5.0
    # Weight of the similarity loss (VITA Sec. 3.4); 0 leaves it out.
    vita.SIM_WEIGHT = 0.5
    # True compares clip queries as well as frame queries in the similarity loss.
    vita.SIM_USE_CLIP = True
    # True adds losses to the output of every object decoder layer.
    vita.DEEP_SUPERVISION = True
