"""Mask R-CNN on amodal masks, and its versions with two towers: MaskJoint and ORCNN.

Shapes: N regions, C channels, S side of the pooled features, M = 2 S, K classes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from torch import Tensor

from amodal2.modeling.roi_heads.amodal_mask_head import AmodalMaskHead
from amodal2.modeling.roi_heads.mask_kinds import AMODAL, INVISIBLE, VISIBLE
from amodal2.modeling.roi_heads.towers import (
    TowerSettings,
    add_convs,
    add_predictor,
    run_convs,
    run_predictor,
)


@ROI_MASK_HEAD_REGISTRY.register()
class AmodalMaskRCNNHead(AmodalMaskHead):
    """Detectron2's mask head on amodal masks (MaskAmodal of SAIL-VOS); its weights fit."""

    weights: ClassVar = {AMODAL: 1.0}

    @configurable
    def __init__(self, *, tower: TowerSettings, **kwargs: Any) -> None:
        """Build the layers.

        Args:
            tower: sizes.
            **kwargs: of :class:`AmodalMaskHead`.
        """
        super().__init__(**kwargs)
        add_convs(self, "mask_fcn", tower)
        add_predictor(self, "deconv", "predictor", tower)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        tower = TowerSettings.from_config(cfg, input_shape)
        return {**super().from_config(cfg, input_shape), "tower": tower}

    def layers(self, x: Tensor) -> dict[str, Tensor]:
        """Predict amodal masks; see :meth:`AmodalMaskHead.layers`."""
        x = run_convs(self, "mask_fcn", x)
        return {AMODAL: run_predictor(self, "deconv", "predictor", x)}


@ROI_MASK_HEAD_REGISTRY.register()
class MaskJointHead(AmodalMaskHead):
    """A tower for amodal and one for visible masks (SAIL-VOS, Sec. 4: MaskJoint).

    Both read the same features of one box; their losses count alike.
    """

    weights: ClassVar = {AMODAL: 1.0, VISIBLE: 1.0}

    @configurable
    def __init__(self, *, tower: TowerSettings, **kwargs: Any) -> None:
        """Build the layers of both towers; see :class:`AmodalMaskRCNNHead`."""
        super().__init__(**kwargs)
        for kind in (AMODAL, VISIBLE):
            add_convs(self, f"{kind}_mask_fcn", tower)
            add_predictor(self, f"{kind}_deconv", f"{kind}_predictor", tower)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        tower = TowerSettings.from_config(cfg, input_shape)
        return {**super().from_config(cfg, input_shape), "tower": tower}

    def layers(self, x: Tensor) -> dict[str, Tensor]:
        """Predict amodal and visible masks; see :meth:`AmodalMaskHead.layers`."""
        return {kind: self.run_tower(kind, x)[0] for kind in (AMODAL, VISIBLE)}

    def run_tower(self, kind: str, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Apply one tower.

        Args:
            kind: "amodal" or "visible".
            x (Tensor[N, C, S, S]): features.

        Returns:
            tuple: logits [N, K, M, M], and the features after the last convolution [N, C, S, S] and
            after the upsampling [N, C, M, M].
        """
        low = run_convs(self, f"{kind}_mask_fcn", x)
        high = getattr(self, f"{kind}_deconv")(low).relu()
        return getattr(self, f"{kind}_predictor")(high), (low, high)


@ROI_MASK_HEAD_REGISTRY.register()
class ORCNNHead(MaskJointHead):
    """MaskJoint whose invisible masks are the difference of the two logits (Follmann et al. 2019).

    Invisible logits are a - ReLU(v) for amodal logits a and visible logits v, and are trained too.
    """

    weights: ClassVar = {AMODAL: 1.0, VISIBLE: 1.0, INVISIBLE: 1.0}

    def layers(self, x: Tensor) -> dict[str, Tensor]:
        """Predict amodal, visible and invisible masks; see :meth:`AmodalMaskHead.layers`."""
        logits = super().layers(x)
        return {**logits, INVISIBLE: logits[AMODAL] - logits[VISIBLE].relu()}
