"""From the configuration to the parts of C2F-Seg."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import ResNet, build_resnet_backbone

from amodal2.modeling.c2f_seg.coarse_transformer import CoarseTransformer
from amodal2.modeling.c2f_seg.refine import RefineModule
from amodal2.modeling.c2f_seg.vq_mask import MaskAutoencoder

LEVELS = ("res2", "res3", "res4", "res5")
STRIDE = 16
"""Of the code grid and of the last level of the backbone."""
REFINEMENTS = ("full", "single", "none")


@BACKBONE_REGISTRY.register()
def build_c2f_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build Detectron2's ResNet with the last stage at stride 16, without dilation."""
    model = build_resnet_backbone(cfg, input_shape)
    first = model.res5[0]
    layer = first.conv2 if first.conv2.stride != (1, 1) else first.conv1
    layer.stride = first.shortcut.stride = (1, 1)
    model._out_feature_strides["res5"] = STRIDE
    return model


def build_autoencoder(cfg: CfgNode) -> MaskAutoencoder:
    """Build the VQ model of ``MODEL.C2F_SEG.VQ``.

    Raises:
        ValueError: if its code grid does not have the stride of stage 2.
    """
    node = cfg.MODEL.C2F_SEG.VQ
    if 2 ** (len(node.CHANNEL_MULT) - 1) != STRIDE:
        raise ValueError(
            "build_autoencoder: expected 5 levels in MODEL.C2F_SEG.VQ.CHANNEL_MULT, got "
            f"{tuple(node.CHANNEL_MULT)}"
        )
    if cfg.INPUT.AMODAL.PATCH_SIZE % STRIDE:
        raise ValueError(
            f"build_autoencoder: expected INPUT.AMODAL.PATCH_SIZE in multiples of {STRIDE}, got "
            f"{cfg.INPUT.AMODAL.PATCH_SIZE}"
        )
    return MaskAutoencoder(
        channels=node.CHANNELS,
        multipliers=node.CHANNEL_MULT,
        blocks=node.NUM_RES_BLOCKS,
        latent_channels=node.LATENT_DIM,
        code_channels=node.CODE_DIM,
        codes=node.CODES,
    )


def build_transformer(cfg: CfgNode, in_channels: int) -> CoarseTransformer:
    """Build the transformer of ``MODEL.C2F_SEG`` for features of that many channels."""
    node = cfg.MODEL.C2F_SEG
    return CoarseTransformer(
        in_channels=in_channels,
        width=node.HIDDEN_DIM,
        heads=node.NUM_HEADS,
        layers=node.NUM_LAYERS,
        codes=node.VQ.CODES,
        length=(cfg.INPUT.AMODAL.PATCH_SIZE // STRIDE) ** 2,
        dropout=node.DROPOUT,
        window=node.WINDOW,
        roll=node.ROLL,
    )


def build_refinement(cfg: CfgNode, channels: Sequence[int]) -> RefineModule | None:
    """Build the refinement for features of those channels; None if it is off.

    Raises:
        ValueError: if ``MODEL.C2F_SEG.REFINE`` is unknown.
    """
    node = cfg.MODEL.C2F_SEG
    if node.REFINE not in REFINEMENTS:
        raise ValueError(
            f"build_refinement: expected MODEL.C2F_SEG.REFINE of {REFINEMENTS}, got {node.REFINE!r}"
        )
    if node.REFINE == "none":
        return None
    return RefineModule(channels, node.REFINE_DIMS, single_branch=node.REFINE == "single")
