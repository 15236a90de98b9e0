"""Keys of Diffusion-VAS; where paper and official code differ the comment says so."""

from detectron2.config import CfgNode


def add_diffusion_vas_config(cfg: CfgNode) -> None:
    """Add ``MODEL.DIFFUSION_VAS`` keys.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    cfg.MODEL.DIFFUSION_VAS = CfgNode()
    node = cfg.MODEL.DIFFUSION_VAS
    # Condition videos: "mask" with any of "rgb" and "depth" makes amodal masks (stage 1, Table 3),
    # "content" with "amodal" paints the hidden part (stage 2), "content" with "mask" does both in
    # one (Table 7).
    node.CONDITIONS = ("mask", "depth")
    # "diffusion", "regression" (the same UNet in one step without noise, the 3D-UNet baseline), or
    # "autoencoder", which trains the VAE where there are no pre-trained weights, before the others.
    node.VARIANT = "diffusion"
    # Folder in the official layout, or name on the hub, that training starts from; "" starts from
    # random weights. A narrower input (SVD, or a stage with fewer conditions) is widened with
    # zeros (Sec. 3.2).
    node.INIT = ""
    # Size of the networks without INIT: "svd", "small", "mini" or "tiny" (presets.py).
    node.ARCHITECTURE = "svd"
    # Weight file of an earlier training of this system that it starts from, for the second stage of
    # the fine-tuning: its input may have fewer conditions.
    node.EARLIER_STAGE = ""
    # False starts the input channels that EARLIER_STAGE or INIT lack from random values instead of
    # zeros (Table 4).
    node.ZERO_INIT = True
    # Height and width in pixels of the model's input (official training: 128 x 256; test: 256 x
    # 512).
    node.IMAGE_SIZE = (128, 256)
    # "none" shows the model whole frames; "amodal" and "visible" cut the object out of each frame
    # by its box of that kind, enlarged twice. With true amodal boxes this is the MOVi protocol and
    # makes pseudo ground truth of boxes (Table 8); visible ones are known in tests.
    node.CROP = "none"
    # Where the depth condition comes from in training: "order" (depth_order and the masks of the
    # dataset, exact on synthetic scenes) or "none".
    node.DEPTH = "order"
    # Parameters whose name contains one of these are trained; () trains the whole UNet. The
    # official code trains 26% of it; a smaller part fits 24 GB.
    node.TRAINABLE = ("temporal_transformer_block", "conv_in2")
    # Rank of the low-rank additions to the attention layers (LoRA); 0 has none. They are trained if
    # TRAINABLE names "lora_".
    node.LORA_RANK = 0
    # True trades time for memory in the UNet.
    node.GRADIENT_CHECKPOINTING = False
    _add_training_config(node)
    _add_test_config(node)


def _add_training_config(node: CfgNode) -> None:
    # Mean and standard deviation of ln sigma (SVD).
    node.SIGMA = (0.7, 1.6)
    # The same of the noise on the conditions (official code).
    node.NOISE_AUG = (-3.0, 0.5)
    # rho of the condition dropout: image embeddings alone, latents alone and both are dropped with
    # this probability each (official code; the paper drops all conditions together).
    node.DROPOUT = 0.1
    # Frame rate that the network is told in training (official: 8, and one less in tests).
    node.FPS = 8
    # Motion bucket that the network is told.
    node.MOTION = 127
    # Clips of earlier iterations that join every batch with the latents they had. Where the VAE
    # costs more than the UNet, as in small models, this trains on more clips in the same time.
    node.REPLAYED = 0
    # Clips that are kept for that.
    node.REPLAY_SIZE = 1000
    # Stage 2: an object counts as occluded enough when its mean visible share falls below this.
    node.VISIBILITY = 0.7
    # Stage 2: occluders that are pasted at most.
    node.OCCLUDERS = 5


def _add_test_config(node: CfgNode) -> None:
    # Denoising steps.
    node.STEPS = 25
    # Guidance scale of the first and the last frame; at most 1 turns guidance off.
    node.GUIDANCE = (1.5, 1.5)
    # Samples per object, with the seeds SEED, SEED + 1, ... (Top-K).
    node.SAMPLES = 1
    # Seed of the first sample (official: 23).
    node.SEED = 23
    # Order of the image embeddings: "official" (as released), "block" or "sequence" (as in
    # training).
    node.LAYOUT = "official"
    # Frames that the model sees at once.
    node.WINDOW = 25
    # Frames that neighbouring windows of a longer video share.
    node.OVERLAP = 8
    # Frames that the VAE decodes together (official: 8); changes the result.
    node.DECODE_CHUNK = 8
