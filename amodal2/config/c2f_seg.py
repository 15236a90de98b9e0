"""Keys of C2F-Seg; the defaults are those of the official image models."""

from detectron2.config import CfgNode


def add_c2f_seg_config(cfg: CfgNode) -> None:
    """Add ``MODEL.C2F_SEG`` keys.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    cfg.MODEL.C2F_SEG = CfgNode()
    node = cfg.MODEL.C2F_SEG
    _add_vq_config(node)
    _add_transformer_config(node)
    # Refinement of the coarse mask: "full" (visible and amodal branch), "single" (amodal branch
    # alone) or "none" (Table 3).
    node.REFINE = "full"
    # Channels of the refinement after its first layer and after layers 2 to 5.
    node.REFINE_DIMS = (256, 128, 64, 32, 16)
    # True fixes the transformer's biases and most of its LayerNorm weights, as the official code
    # does by mistake (its optimiser gets an empty parameter group).
    node.FREEZE_BIAS_AND_LN = False
    _add_test_config(node)


def _add_vq_config(node: CfgNode) -> None:
    node.VQ = CfgNode()
    # Channels of the finest level of the VQ model before its multiplier, in multiples of
    # NORM_GROUPS.
    node.VQ.CHANNELS = 128
    # Multipliers of the channels, one per level; the code grid has stride 2^(levels - 1), which
    # stage 2 needs to be 16 (official) or, for small patches, 8.
    node.VQ.CHANNEL_MULT = (1, 1, 2, 2, 4)
    # Groups of the normalisations of the VQ model.
    node.VQ.NORM_GROUPS = 32
    # Residual blocks per level of the encoder; the decoder has one more.
    node.VQ.NUM_RES_BLOCKS = 2
    # Channels between encoder or decoder and the codes.
    node.VQ.LATENT_DIM = 256
    # Channels of a code.
    node.VQ.CODE_DIM = 256
    # K, codes of the codebook and of the transformer's vocabulary.
    node.VQ.CODES = 256
    # Weight files of LPIPS, separated by commas: taming's vgg.pth and torchvision's VGG-16, or an
    # official vqgan_*.pth, which holds both. "" trains without LPIPS.
    node.VQ.LPIPS_WEIGHTS = ""
    # Weight of the adversarial loss relative to the reconstruction's gradient (VQ-GAN).
    node.VQ.ADVERSARIAL_WEIGHT = 0.75
    # Channels of the discriminator's first layer.
    node.VQ.DISCRIMINATOR_CHANNELS = 64
    # A code that no mask has used for this many iterations is replaced by a feature of the batch; 0
    # leaves dead codes alone (official).
    node.VQ.DEAD_CODE_AGE = 500


def _add_transformer_config(node: CfgNode) -> None:
    # D, channels of the transformer.
    node.HIDDEN_DIM = 768
    # Attention heads of the transformer.
    node.NUM_HEADS = 12
    # Blocks of the transformer (official video models: 8).
    node.NUM_LAYERS = 12
    # Dropout of the transformer, in [0, 1).
    node.DROPOUT = 0.01
    # Frames of a spatial-temporal window (MOViD-A: 24, FISHBOWL: 16); 0 builds the image model.
    node.WINDOW = 0
    # True moves clips of several windows on by half a window after each block (Sec. 3.4).
    node.ROLL = True


def _add_test_config(node: CfgNode) -> None:
    # Steps of the decoding in tests.
    node.STEPS = 3
    # Codes that a position chooses from in tests.
    node.TOP_K = 3
    # Temperature of the noise on the confidence at the start of the decoding.
    node.TEMPERATURE = 4.5
    # True takes the likeliest codes without noise in tests; False draws them (official).
    node.DETERMINISTIC = False
    # True averages where pasting shrinks a patch (torchvision from 0.17 on); False as at the time
    # of the paper.
    node.PASTE_ANTIALIAS = True
    # Probability of the mask: "refined", or "sum" for refined plus coarse, as the official video
    # model thresholds.
    node.PROBABILITY = "refined"
    # True adds the given visible pixels to amodal masks of images (the paper's numbers).
    node.POST_PROCESS = True
