"""VRSP: MaskJoint whose towers look a second time, at what the first look found.

Xiao et al., "Amodal Segmentation Based on Visible Region Segmentation and Shape Prior", AAAI 2021.
Shapes: N regions, C channels, S side of the pooled features, M = 2 S, K classes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from torch import Tensor

from amodal2.modeling.roi_heads.mask_kinds import AMODAL, VISIBLE
from amodal2.modeling.roi_heads.mask_losses import mask_loss, select_class
from amodal2.modeling.roi_heads.mask_rcnn import MaskJointHead
from amodal2.modeling.roi_heads.mask_targets import MaskTargets
from amodal2.modeling.roi_heads.reclassifier import (
    Reclassifier,
    reclassification_loss,
    reclassified_scores,
)
from amodal2.modeling.roi_heads.shape_codebook import ShapeAutoencoder, ShapeCodebook, load_shapes
from amodal2.modeling.roi_heads.towers import TowerSettings
from amodal2.structures import fields

_CODE_INPUTS = ("probability", "official_logits")
_KINDS = (AMODAL, VISIBLE)
_Pass = tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]


@ROI_MASK_HEAD_REGISTRY.register()
class VRSPHead(MaskJointHead):
    """Coarse masks, then refined ones from attended features and typical shapes of the class.

    The visible tower reads the features inside the coarse amodal mask, then the amodal tower those
    inside the refined visible mask beside the shapes nearest to the coarse amodal mask. In training
    the towers also learn from features inside the true masks. A re-classifier looks at the features
    inside the visible mask, if ``reclassifier`` is given.
    """

    @configurable
    def __init__(
        self,
        *,
        tower: TowerSettings,
        shape_prior: bool = True,
        shapes: str = "",
        num_classes: int,
        neighbours: int = 16,
        code_input: str = "probability",
        guided_weight: float = 1.0,
        matching_weights: tuple[float, float] = (0.01, 0.05),
        rescore_alpha: float = 0.0,
        reclassifier: Reclassifier | None = None,
        reclassifier_truth_weight: float = 0.1,
        reclassifier_rescoring: bool = False,
        **kwargs: Any,
    ) -> None:
        """Build the layers.

        Args:
            tower: sizes of both towers.
            shape_prior: let the refinement read typical shapes.
            shapes: file of them; "" gives what the auto-encoder makes of the coarse mask.
            num_classes: K.
            neighbours: shapes per region.
            code_input: what is encoded to look shapes up, "probability" or "official_logits".
            guided_weight: of the losses of the pass with true masks.
            matching_weights: of the losses that draw the features of the coarse pass to those of
                the guided one, after the last convolution and after the upsampling.
            rescore_alpha: above 1, scores sink with the distance of the amodal mask from its
                nearest shape; 0 leaves them alone.
            reclassifier: gives a second opinion on classes; None leaves it out.
            reclassifier_truth_weight: of its loss on the true visible masks.
            reclassifier_rescoring: let scores sink where it disagrees.
            **kwargs: of :class:`AmodalMaskHead`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if a choice is unknown, or shapes are needed that are not there.
        """
        super().__init__(tower=tower, **kwargs)
        if code_input not in _CODE_INPUTS:
            raise ValueError(
                f"VRSPHead: expected MODEL.VRSP.CODE_INPUT of {_CODE_INPUTS}, got {code_input!r}"
            )
        if rescore_alpha and (rescore_alpha <= 1 or not shape_prior):
            raise ValueError(
                "VRSPHead: expected MODEL.VRSP.RESCORE_ALPHA above 1 and SHAPE_PRIOR True, or 0, "
                f"got {rescore_alpha} and {shape_prior}"
            )
        self.code_input = code_input
        self.neighbours = neighbours
        self.guided_weight = guided_weight
        self.matching_weights = matching_weights
        self.rescore_alpha = rescore_alpha
        self.recls = reclassifier
        self.reclassifier_truth_weight = reclassifier_truth_weight
        self.reclassifier_rescoring = reclassifier_rescoring
        self.shape_prior = shape_prior
        if shape_prior:
            channels = tower.in_channels
            self.fuse_layer = Conv2d(channels + neighbours, channels, kernel_size=3, padding=1)
            self.recon_net = ShapeAutoencoder().requires_grad_(False)
            state, codes = load_shapes(shapes, num_classes) if shapes else ({}, {})
            if state:
                self.recon_net.load_state_dict(state)
            self.codebook = ShapeCodebook(codes)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        node = cfg.MODEL.VRSP
        own = node.RECLASSIFIER
        return {
            **super().from_config(cfg, input_shape),
            "shape_prior": node.SHAPE_PRIOR,
            "shapes": node.SHAPES,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "neighbours": node.NEIGHBOURS,
            "code_input": node.CODE_INPUT,
            "guided_weight": node.GUIDED_WEIGHT,
            "matching_weights": tuple(node.MATCHING_WEIGHTS),
            "rescore_alpha": node.RESCORE_ALPHA,
            "reclassifier": _build_reclassifier(cfg, input_shape) if own.ENABLED else None,
            "reclassifier_truth_weight": own.TRUTH_WEIGHT,
            "reclassifier_rescoring": own.RESCORING,
        }

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:
        """Learn from regions, or predict their masks.

        Args:
            x (Tensor[N, C, S, S]): pooled features of all images.
            instances: regions per image, see :meth:`AmodalMaskHead.forward`.

        Returns:
            dict[str, Tensor] | list[Instances]: in training the losses of the coarse masks, and
            ``loss_<kind>_refined``, ``loss_<kind>_guided``, ``loss_feature_matching`` and, with a
            re-classifier, ``loss_reclassification``; else
            ``instances`` with the refined masks (and new ``scores`` if they are rescored).
        """
        coarse = self._look(x, x, x)
        if not self.training:
            classes = torch.cat([entry.pred_classes for entry in instances])
            refined, _ = self._refine(x, coarse[0], classes, self._shapes(coarse[0], classes))
            self.store(refined, classes, instances)
            if self.recls is not None and self.reclassifier_rescoring:
                self._rescore_by_class(x, refined, instances)
            if self.rescore_alpha:
                self._rescore(instances)
            return instances
        targets = self.collect_targets(instances, coarse[0][AMODAL].shape[-1], x.device)
        small = self.collect_targets(instances, x.shape[-1], x.device).masks
        shapes = self._shapes(coarse[0], targets.classes)
        refined, _ = self._refine(x, coarse[0], targets.classes, shapes)
        inside = {kind: x * small[kind][:, None] for kind in _KINDS}
        guided = self._look(self._fuse(inside[VISIBLE], shapes), inside[AMODAL], x)
        losses = self.losses(coarse[0], targets)
        losses.update(self._second_losses(coarse[0], refined, guided[0], targets))
        losses["loss_feature_matching"] = self._matching_loss(coarse, guided)
        if self.recls is not None:
            losses["loss_reclassification"] = self._class_loss(
                self.recls, x, refined, targets, small[VISIBLE]
            )
        return losses

    def _class_loss(
        self,
        recls: Reclassifier,
        x: Tensor,
        refined: dict[str, Tensor],
        targets: MaskTargets,
        true: Tensor,
    ) -> Tensor:
        """Teach the re-classifier the regions' classes.

        A region counts as much as its predicted visible mask overlaps the true one, and once more
        with features inside the true mask. Regions without a known visible mask are left out.
        """
        known = targets.known[VISIBLE].to(x.device)
        classes = targets.classes.to(x.device)
        found = select_class(refined[VISIBLE], classes).detach() > 0
        overlap = _overlap(found, targets.masks[VISIBLE] > 0.5)[known]
        inside = x * _attention(refined[VISIBLE].detach(), classes)
        features = torch.cat([inside[known], (x * true[:, None])[known]])
        weights = torch.cat([overlap, torch.full_like(overlap, self.reclassifier_truth_weight)])
        return reclassification_loss(recls(features), classes[known].repeat(2), weights)

    def _rescore_by_class(
        self, x: Tensor, refined: dict[str, Tensor], instances: list[Instances]
    ) -> None:
        """Lower the scores of objects whose visible part looks like another class."""
        assert self.recls is not None, "the caller has looked"
        classes = torch.cat([entry.pred_classes for entry in instances])
        logits = self.recls(x * _attention(refined[VISIBLE], classes))
        parts = logits.split([len(entry) for entry in instances])
        for entry, part in zip(instances, parts, strict=True):
            if entry.has(fields.SCORES):
                entry.scores = reclassified_scores(entry.scores, part, entry.pred_classes)

    def _look(self, for_amodal: Tensor, for_visible: Tensor, x: Tensor) -> _Pass:
        """Apply both towers; return logits and features by kind."""
        logits, features = {}, {}
        for kind, values in ((AMODAL, for_amodal), (VISIBLE, for_visible)):
            logits[kind], features[kind] = self.run_tower(kind, values.to(x.dtype))
        return logits, features

    def _refine(
        self, x: Tensor, coarse: dict[str, Tensor], classes: Tensor, shapes: Tensor | None
    ) -> _Pass:
        """Look again; return refined logits and features by kind."""
        inside = x * _attention(coarse[AMODAL], classes)
        visible, visible_features = self.run_tower(VISIBLE, inside)
        seen = x * _attention(visible, classes)
        amodal, amodal_features = self.run_tower(AMODAL, self._fuse(seen, shapes))
        return (
            {AMODAL: amodal, VISIBLE: visible},
            {AMODAL: amodal_features, VISIBLE: visible_features},
        )

    def _shapes(self, coarse: dict[str, Tensor], classes: Tensor) -> Tensor | None:
        """Return the shapes nearest to the coarse amodal masks, [N, neighbours, S, S]."""
        if not self.shape_prior:
            return None
        with torch.no_grad():
            masks = select_class(coarse[AMODAL], classes).float()
            if self.code_input == "probability":
                masks = masks.sigmoid()
            codes = self.codebook.nearest(self.recon_net.encode(masks), classes, self.neighbours)
            return F.avg_pool2d(self.recon_net.decode(codes), 2)

    def _fuse(self, x: Tensor, shapes: Tensor | None) -> Tensor:
        if shapes is None:
            return x
        return self.fuse_layer(torch.cat((x, shapes.to(x.dtype)), dim=1))

    def _second_losses(
        self,
        coarse: dict[str, Tensor],
        refined: dict[str, Tensor],
        guided: dict[str, Tensor],
        targets: MaskTargets,
    ) -> dict[str, Tensor]:
        """Return the losses of the refined and of the guided masks.

        A region counts for the refined masks of a kind as much as the coarse mask of the other
        kind, which they are made from, overlaps the truth.
        """
        result = {}
        both = targets.known[AMODAL] & targets.known[VISIBLE]
        for kind, other in ((AMODAL, VISIBLE), (VISIBLE, AMODAL)):
            source = select_class(coarse[other], targets.classes).detach() > 0
            overlap = _overlap(source, targets.masks[other] > 0.5)
            overlap = torch.where(targets.known[other].to(overlap.device), overlap, 1.0)
            target, weight = targets.masks[kind], self.loss_weights[kind]
            found = select_class(refined[kind], targets.classes)
            loss = mask_loss(found, target, targets.known[kind], overlap)
            result[f"loss_{kind}_refined"] = weight * loss
            found = select_class(guided[kind], targets.classes)
            loss = mask_loss(found, target, both)
            result[f"loss_{kind}_guided"] = self.guided_weight * weight * loss
        return result

    def _matching_loss(self, coarse: _Pass, guided: _Pass) -> Tensor:
        """Draw the features of the coarse pass to those of the guided one, by their cosine."""
        total = coarse[0][AMODAL].sum() * 0
        for kind in _KINDS:
            pairs = zip(coarse[1][kind], guided[1][kind], self.matching_weights, strict=True)
            for mine, better, weight in pairs:
                if len(mine):
                    same = F.cosine_similarity(mine.flatten(1), better.detach().flatten(1))
                    total = total + weight * (1 - same).mean()
        return total

    def _rescore(self, instances: list[Instances]) -> None:
        """Lower the scores of amodal masks that are far from every shape of their class.

        The score becomes sqrt(score * log(alpha - d) / log(alpha)), with d in [0, 1] the share of
        cells in which mask and nearest shape differ.
        """
        for entry in instances:
            if not entry.has(fields.SCORES) or not len(entry):
                continue
            masks = (entry.get(fields.PRED_AMODAL_MASKS)[:, 0] > 0.5).float()
            codes = self.codebook.nearest(self.recon_net.encode(masks), entry.pred_classes, 1)
            nearest = (self.recon_net.decode(codes)[:, 0] > 0.5).float()
            distance = (masks - nearest).abs().mean(dim=(1, 2))
            factor = (self.rescore_alpha - distance).log() / math.log(self.rescore_alpha)
            entry.scores = (entry.scores * factor.clamp(min=0)).sqrt()


def _build_reclassifier(cfg: CfgNode, input_shape: ShapeSpec) -> Reclassifier:
    """Build the re-classifier that ``MODEL.VRSP.RECLASSIFIER`` describes."""
    node = cfg.MODEL.VRSP.RECLASSIFIER
    side = cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION
    num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return Reclassifier(
        input_shape.channels, side, num_classes, list(node.CONV_DIMS), list(node.FC_DIMS)
    )


def _attention(logits: Tensor, classes: Tensor) -> Tensor:
    """Return how much each cell of the pooled features counts, [N, 1, S, S] in [0, 1]."""
    return F.avg_pool2d(select_class(logits, classes)[:, None], 2).sigmoid()


def _overlap(found: Tensor, true: Tensor) -> Tensor:
    """Return the IoU of bool masks [N, M, M]; 0 where both are empty."""
    union = (found | true).flatten(1).sum(dim=1)
    return (found & true).flatten(1).sum(dim=1) / union.clamp(min=1)
