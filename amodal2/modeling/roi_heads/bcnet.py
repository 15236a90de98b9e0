"""BCNet: an occluder branch whose features are added to those of the occluded object.

Ke et al., "Deep Occlusion-Aware Instance Segmentation with Overlapping BiLayers", CVPR 2021.
Shapes: N regions, C channels, S side of the pooled features, M = 2 S, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn

from amodal2.modeling.roi_heads.amodal_mask_head import AmodalMaskHead
from amodal2.modeling.roi_heads.mask_kinds import AMODAL, OCCLUDER, VISIBLE
from amodal2.modeling.roi_heads.mask_losses import mask_loss, occluder_regions, select_class
from amodal2.modeling.roi_heads.mask_targets import MaskTargets
from amodal2.modeling.roi_heads.towers import (
    TowerSettings,
    add_convs,
    add_predictor,
    run_predictor,
)

_TARGETS = (AMODAL, VISIBLE)
_GRAPH_AFTER = 2  # convolutions before the graph layer


@ROI_MASK_HEAD_REGISTRY.register()
class BCNet(AmodalMaskHead):
    """Two branches of convolutions and a graph layer, each with a mask and its boundary.

    The occluder branch is called ``boundary_fcn`` in the official weights, that of the object
    ``mask_fcn``. Masks of the object are amodal, or visible as in the paper.
    """

    weights: ClassVar = {AMODAL: 1.0, OCCLUDER: 0.25}

    @configurable
    def __init__(
        self,
        *,
        tower: TowerSettings,
        target: str = AMODAL,
        boundary_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """Build the layers.

        Args:
            tower: sizes; ``conv_dim`` equals ``in_channels``.
            target: "amodal" or "visible", the masks of the object.
            boundary_weight: of both boundary losses.
            **kwargs: of :class:`AmodalMaskHead`.

        Raises:
            ValueError: if the widths differ or the target is unknown.
        """
        if target not in _TARGETS:
            raise ValueError(f"BCNet: expected MODEL.BCNET.TARGET of {_TARGETS}, got {target!r}")
        if tower.conv_dim != tower.in_channels:
            raise ValueError(
                f"BCNet: expected MODEL.ROI_MASK_HEAD.CONV_DIM {tower.in_channels}, the channels "
                f"of the pooled features, got {tower.conv_dim}"
            )
        super().__init__(weights={target: 1.0, OCCLUDER: self.weights[OCCLUDER]}, **kwargs)
        self.target = target
        self.boundary_weight = boundary_weight
        for convs, graph, up in (("boundary_fcn", "_bo", "bo_"), ("mask_fcn", "", "")):
            add_convs(self, convs, tower)
            for part in ("query", "key", "value", "output"):
                conv = Conv2d(tower.conv_dim, tower.conv_dim, kernel_size=1, bias=False)
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                self.add_module(f"{part}_transform_bound{graph}", conv)
            self.add_module(f"blocker_bound{graph}", nn.BatchNorm2d(tower.conv_dim, eps=1e-4))
            add_predictor(self, f"{up}deconv", f"predictor{graph}", tower)
            add_predictor(self, f"boundary_deconv{graph}", f"boundary_predictor{graph}", tower)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        result = super().from_config(cfg, input_shape)
        node = cfg.MODEL.ROI_MASK_HEAD.LOSS_WEIGHTS
        kinds = (cfg.MODEL.BCNET.TARGET, OCCLUDER)
        given = {kind: node[kind.upper()] for kind in kinds if kind.upper() in node}
        return {
            **result,
            "loss_weights": {kind: weight for kind, weight in given.items() if weight >= 0},
            "tower": TowerSettings.from_config(cfg, input_shape),
            "target": cfg.MODEL.BCNET.TARGET,
            "boundary_weight": cfg.MODEL.BCNET.BOUNDARY_WEIGHT,
        }

    def layers(self, x: Tensor) -> dict[str, Tensor]:
        """Predict the masks of object and occluder; see :meth:`AmodalMaskHead.layers`."""
        return self._masks(*self._branches(x))

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:
        """Learn masks and boundaries, or predict masks; see :meth:`AmodalMaskHead.forward`."""
        if not self.training:
            return super().forward(x, instances)
        occluder, own = self._branches(x)
        logits = self._masks(occluder, own)
        boundaries = {
            self.target: run_predictor(self, "boundary_deconv", "boundary_predictor", own),
            OCCLUDER: run_predictor(self, "boundary_deconv_bo", "boundary_predictor_bo", occluder),
        }
        targets = self.collect_targets(instances, logits[OCCLUDER].shape[-1], x.device)
        return {**self.losses(logits, targets), **self._boundary_losses(boundaries, targets)}

    def _masks(self, occluder: Tensor, own: Tensor) -> dict[str, Tensor]:
        return {
            self.target: run_predictor(self, "deconv", "predictor", own),
            OCCLUDER: run_predictor(self, "bo_deconv", "predictor_bo", occluder),
        }

    def _branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the occluder and of the object, each [N, C, S, S]."""
        occluder = self._branch(x, "boundary_fcn", "_bo")
        return occluder, self._branch(x + occluder, "mask_fcn", "")

    def _branch(self, x: Tensor, convs: str, graph: str) -> Tensor:
        k = 1
        while hasattr(self, f"{convs}{k}"):
            x = getattr(self, f"{convs}{k}")(x)
            if k == _GRAPH_AFTER:
                x = x + self._graph(x, graph)
            k += 1
        return x

    def _graph(self, x: Tensor, name: str) -> Tensor:
        """Exchange information between all cells of a region."""
        query, key, value = (
            getattr(self, f"{part}_transform_bound{name}")(x).flatten(2).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        read = F.scaled_dot_product_attention(query, key, value)
        read = read.transpose(1, 2).unflatten(2, x.shape[2:])
        read = getattr(self, f"output_transform_bound{name}")(read)
        norm = getattr(self, f"blocker_bound{name}")
        if len(x):
            return norm(read)
        return read * (norm.weight + norm.bias)[:, None, None]  # no statistics of nothing

    def _boundary_losses(
        self, logits: Mapping[str, Tensor], targets: MaskTargets
    ) -> dict[str, Tensor]:
        result = {}
        for kind, values in logits.items():
            chosen, known = select_class(values, targets.classes), targets.known[kind]
            boundary = mask_boundaries(targets.masks[kind])
            if kind == OCCLUDER and self.occluder_batch == "official":
                regions = occluder_regions(targets.masks[kind])
                chosen, boundary, known = chosen[regions], boundary[regions], known[regions.cpu()]
            loss = self.boundary_weight * mask_loss(chosen, boundary, known)
            result[f"loss_{kind}_boundary"] = loss
        return result


def mask_boundaries(masks: Tensor) -> Tensor:
    """Mark the cells on both sides of the outlines of masks.

    These are what dilation and erosion with the 3x3 cross differ in; the frame of the mask is no
    outline.

    Args:
        masks (Tensor[N, M, M]): 0 or 1.

    Returns:
        Tensor[N, M, M]: 0 or 1.
    """
    return _dilate(masks) - (1 - _dilate(1 - masks))


def _dilate(masks: Tensor) -> Tensor:
    if not len(masks):
        return masks
    rows = F.max_pool2d(masks, (3, 1), stride=1, padding=(1, 0))
    return torch.maximum(rows, F.max_pool2d(masks, (1, 3), stride=1, padding=(0, 1)))
