"""The trained parts of mask transfer, and how a config builds them.

Shapes: B queries, H W crops in image pixels, h w patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from torch import Tensor, nn

from amodal2.modeling.mask_transfer.options import NET_REFINEMENTS
from amodal2.modeling.mask_transfer.patches import to_square
from amodal2.modeling.mask_transfer.reference_bank import encoder_hash
from amodal2.modeling.mask_transfer.refine_net import RefineNet
from amodal2.modeling.mask_transfer.scale_net import ScaleNet, build_scale_net, scale_of
from amodal2.modeling.mask_transfer.score_branch import ScoreBranch
from amodal2.modeling.mask_transfer.visual_concepts import PatchEncoder
from amodal2.modeling.mask_transfer.voting_branch import VoteFilter

FEATURES = {8: "res3", 16: "res4"}
"""Stride of the voting cells -> map of the backbone."""


class TransferNetwork(nn.Module):
    """Encoder, ScaleNet, voting branch and score branch.

    Args:
        encoder: of patches.
        scale_net: with or without the mask as fourth channel.
        vote: filter of the voting branch.
        score: score branch.
        refine: corrects transferred masks; None if there is none.
        short_side: L, short side of a whole object in patch pixels.
        longest: limit of a patch's longer side in pixels.
        scale_mask: whether ScaleNet sees the detector's mask.
        border: whether votes count that lay a query beside a reference, without a common cell.
    """

    def __init__(
        self,
        encoder: PatchEncoder,
        scale_net: ScaleNet,
        vote: VoteFilter,
        score: ScoreBranch,
        refine: RefineNet | None = None,
        *,
        short_side: int,
        longest: int,
        scale_mask: bool,
        border: bool = True,
    ) -> None:
        super().__init__()
        self.encoder, self.scale_net, self.vote, self.score = encoder, scale_net, vote, score
        self.refine, self.border = refine, border
        self.short_side, self.longest, self.scale_mask = short_side, longest, scale_mask

    def predict_ratios(
        self, crops: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Run ScaleNet.

        Args:
            crops (Sequence[Tensor[3, H, W]]): B normalised images of proposals, at least one.
            masks (Sequence[Tensor[H, W]]): bool, the detector's masks in them.

        Returns:
            tuple: ρ (Tensor[B]) and the crops' heights and widths (Tensor[B, 2]).
        """
        pictures = []
        for crop, mask in zip(crops, masks, strict=True):
            layers = torch.cat([crop, mask[None].to(crop)]) if self.scale_mask else crop
            pictures.append(to_square(layers, self.short_side))
        sizes = torch.stack([crop.new_tensor(crop.shape[-2:]) for crop in crops])
        return self.scale_net(torch.stack(pictures), sizes), sizes

    def predict_scales(self, crops: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
        """Return ŝ (Tensor[B]), image pixels per patch pixel; arguments as ``predict_ratios``."""
        return scale_of(*self.predict_ratios(crops, masks), self.short_side)

    def fingerprint(self) -> str:
        """Return what a bank must have been encoded with."""
        changed = () if self.encoder.concepts.unit else (0,)
        settings = (self.short_side, self.longest, self.encoder.stride, *changed)
        return encoder_hash(self.encoder, *settings)


def build_network(cfg: CfgNode) -> TransferNetwork:
    """Build the network that ``MODEL.MASK_TRANSFER`` and ``MODEL.BACKBONE`` describe.

    Args:
        cfg: configuration.

    Returns:
        TransferNetwork: with initial weights.

    Raises:
        ValueError: if the stride is not one of the backbone.
    """
    node = cfg.MODEL.MASK_TRANSFER
    if node.STRIDE not in FEATURES:
        raise ValueError(
            f"build_network: expected MODEL.MASK_TRANSFER.STRIDE of {sorted(FEATURES)}, got "
            f"{node.STRIDE}"
        )
    feature = FEATURES[node.STRIDE]
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.RESNETS.OUT_FEATURES = [feature]
    backbone = build_backbone(cfg)
    spec = backbone.output_shape()[feature]
    if spec.stride != node.STRIDE:
        raise ValueError(
            f"build_network: expected a backbone whose {feature} has stride {node.STRIDE}, got "
            f"{spec.stride}"
        )
    with_refinement = node.REFINE in NET_REFINEMENTS or "refine" in node.TRAIN
    encoder = PatchEncoder(
        backbone, feature, node.STRIDE, spec.channels, node.NUM_CONCEPTS, unit=node.UNIT_FEATURES
    )
    return TransferNetwork(
        encoder,
        build_scale_net(node.SCALE_DEPTH, with_mask=node.SCALE_MASK),
        VoteFilter(node.NUM_CONCEPTS, node.K2, node.NORM),
        ScoreBranch(node.NUM_CONCEPTS, node.K2, node.NORM),
        RefineNet(node.REFINE_CHANNELS) if with_refinement else None,
        short_side=node.L,
        longest=round(node.MAX_SIDE * node.L),
        scale_mask=node.SCALE_MASK,
        border=node.VOTE_BORDER,
    )
