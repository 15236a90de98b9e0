"""Keys of SaVos and of what it is compared with: a U-Net and PCNet-M."""

from detectron2.config import CfgNode


def add_savos_config(cfg: CfgNode) -> None:
    """Add ``MODEL.SAVOS``, ``MODEL.AMODAL_UNET`` and ``MODEL.PCNET`` keys.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    cfg.MODEL.SAVOS = CfgNode()
    node = cfg.MODEL.SAVOS
    # "paper" follows the equations, "official" the released code with its quirks, for its weights
    # (modeling/savos/presets.py lists them).
    node.PRESET = "paper"
    # Channels of the first block, even; the others are multiples (official: 32, 17.3 M parameters).
    node.BASE_CHANNELS = 32
    # "paper" preset: patches follow the "visible" box of each frame (paper), or the "motion" of the
    # visible pixels at one size, so that what hides the object does not move them.
    node.FOLLOW = "visible"
    # "paper" preset: factor from the visible box to the patch (official: 1.5).
    node.ENLARGE = 1.5
    # "visible" learns from visible masks alone; "amodal" from amodal masks (supervised oracle).
    node.LABELS = "visible"
    # lambda_1, weight of the mask loss, a sum over pixels and mean over frames (not published;
    # official: 1).
    node.MASK_WEIGHT = 1.0
    # lambda_2, weight of the consistency loss, a sum over frames and mean over tracks (not
    # published; official: 1).
    node.CONSISTENCY_WEIGHT = 1.0
    # Weight of the photometric loss, which is in the released code only (0.1 on FISHBOWL, 0 on
    # KINS).
    node.PHOTOMETRIC_WEIGHT = 0.0
    # Frames of a test video that the network sees at once (official: whole tracks, filled up to
    # 128).
    node.TEST_WINDOW = 128
    # Frames that neighbouring windows of a test video share.
    node.TEST_OVERLAP = 32
    # What becomes of the predicted mask: "others" uses it inside other objects' visible masks and
    # the visible mask elsewhere (official), "visible" adds the visible mask, "raw" leaves it alone.
    node.COMPOSE = "others"

    cfg.MODEL.AMODAL_UNET = CfgNode()
    node = cfg.MODEL.AMODAL_UNET
    # Channels of the finest level; coarser ones have 2, 4 and 8 times as many.
    node.CHANNELS = 32
    # Side of the square patches in pixels, a multiple of 16.
    node.PATCH_SIZE = 64
    # Factor from the visible box to the patch.
    node.ENLARGE = 2.0
    # As MODEL.SAVOS.COMPOSE.
    node.COMPOSE = "others"

    cfg.MODEL.PCNET = CfgNode()
    # w: the finest level has 16 w channels (deocclusion: 2). Patches have INPUT.AMODAL.PATCH_SIZE
    # pixels, a multiple of 16.
    cfg.MODEL.PCNET.WIDTH = 2
    # As MODEL.SAVOS.COMPOSE; deocclusion itself leaves the prediction alone.
    cfg.MODEL.PCNET.COMPOSE = "raw"
