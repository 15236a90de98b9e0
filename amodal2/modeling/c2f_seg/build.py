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
STRIDES = (8, 16)
"""Of the code grid and of the last two levels of the backbone; 16 in the official models."""
REFINEMENTS = ("full", "single", "none")


def code_stride(cfg: CfgNode) -> int:
    """Return the stride of the code grid, which ``MODEL.C2F_SEG.VQ.CHANNEL_MULT`` implies.

    Raises:
        ValueError: if it is not one of ``STRIDES``.
    """
    multipliers = tuple(cfg.MODEL.C2F_SEG.VQ.CHANNEL_MULT)
    stride = 2 ** (len(multipliers) - 1)
    if stride not in STRIDES:
        raise ValueError(
            "code_stride: expected 4 or 5 levels in MODEL.C2F_SEG.VQ.CHANNEL_MULT, got "
            f"{multipliers}"
        )
    return stride


@BACKBONE_REGISTRY.register()
def build_c2f_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build Detectron2's ResNet that goes no coarser than the code grid, without dilation."""
    model = build_resnet_backbone(cfg, input_shape)
    coarsest = code_stride(cfg)
    for level, stride in (("res4", 16), ("res5", 32)):
        if stride > coarsest:
            first = getattr(model, level)[0]
            layer = first.conv2 if first.conv2.stride != (1, 1) else first.conv1
            layer.stride = first.shortcut.stride = (1, 1)
            model._out_feature_strides[level] = coarsest
    return model


def build_autoencoder(cfg: CfgNode) -> MaskAutoencoder:
    """Build the VQ model of ``MODEL.C2F_SEG.VQ``.

    Raises:
        ValueError: if its code grid does not have a stride of stage 2, or does not fit the patches.
    """
    node, stride = cfg.MODEL.C2F_SEG.VQ, code_stride(cfg)
    if cfg.INPUT.AMODAL.PATCH_SIZE % stride:
        raise ValueError(
            f"build_autoencoder: expected INPUT.AMODAL.PATCH_SIZE in multiples of {stride}, got "
            f"{cfg.INPUT.AMODAL.PATCH_SIZE}"
        )
    return MaskAutoencoder(
        channels=node.CHANNELS,
        multipliers=node.CHANNEL_MULT,
        blocks=node.NUM_RES_BLOCKS,
        latent_channels=node.LATENT_DIM,
        code_channels=node.CODE_DIM,
        codes=node.CODES,
        groups=node.NORM_GROUPS,
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
        length=(cfg.INPUT.AMODAL.PATCH_SIZE // code_stride(cfg)) ** 2,
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
