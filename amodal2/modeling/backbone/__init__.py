"""Backbones beside Detectron2's own; importing this package registers them."""

from amodal2.modeling.backbone.swin import SwinBackbone, build_swin_backbone
from amodal2.modeling.backbone.timm_backbone import (
    TimmBackbone,
    build_timm_backbone,
    build_timm_fpn_backbone,
)

__all__ = [
    "SwinBackbone",
    "TimmBackbone",
    "build_swin_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
]
