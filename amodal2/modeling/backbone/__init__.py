"""Backbones beside Detectron2's own; importing this package registers them."""

from amodal2.modeling.backbone.timm_backbone import TimmBackbone, build_timm_backbone

__all__ = ["TimmBackbone", "build_timm_backbone"]
