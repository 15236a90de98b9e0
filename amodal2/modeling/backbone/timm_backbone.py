"""Any timm model with ``features_only`` as a Detectron2 backbone."""

from collections.abc import Sequence
from typing import Any, cast

import timm
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from timm.layers import BatchNormAct2d, freeze_batch_norm_2d
from timm.models import FeatureInfo
from torch import Tensor, nn

_NAMES = ("res2", "res3", "res4", "res5")
_STRIDES = [4, 8, 16, 32]


class TimmBackbone(Backbone):
    """Feature pyramid of a timm model under Detectron2's names ``res2`` … ``res5``.

    Args:
        name: timm model name.
        pretrained: start from timm's published weights (downloaded by timm).
        out_indices: four indices into the model's feature list, from fine to coarse.
        freeze_bn: fix batch normalisation.
        in_channels: channels of the input image.

    Raises:
        ValueError: if the model is unknown, has no feature list, not four indices are given, or
            their levels do not have the strides 4, 8, 16 and 32.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        freeze_bn: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if len(out_indices) != len(_NAMES):
            raise ValueError(
                f"TimmBackbone: expected {len(_NAMES)} indices in MODEL.TIMM.OUT_INDICES, got "
                f"{tuple(out_indices)}"
            )
        try:
            body = _create_body(name, pretrained, tuple(out_indices), in_channels)
        except (RuntimeError, IndexError, AssertionError) as error:
            raise ValueError(
                "TimmBackbone: expected MODEL.TIMM.NAME to be a timm model with features_only "
                f"and the levels {tuple(out_indices)}, got {name!r} ({error}); timm.list_models() "
                "names them"
            ) from error
        info = cast(FeatureInfo, body.feature_info)
        if info.reduction() != _STRIDES:
            raise ValueError(
                f"TimmBackbone: expected levels of the strides {_STRIDES}, got {info.reduction()} "
                f"of {name!r}; choose other MODEL.TIMM.OUT_INDICES"
            )
        self._channels_last = getattr(body, "output_fmt", "NCHW") == "NHWC"
        self.body = _freeze_batch_norm(body) if freeze_bn else body
        self._out_features = list(_NAMES)
        self._out_feature_channels = dict(zip(_NAMES, info.channels(), strict=True))
        self._out_feature_strides = dict(zip(_NAMES, _STRIDES, strict=True))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the pyramid.

        Args:
            x (Tensor[B, 3, H, W]): normalised images.

        Returns:
            dict[str, Tensor[B, c, H/s, W/s]]: res2 … res5.
        """
        levels = self.body(x)
        if self._channels_last:
            levels = [level.permute(0, 3, 1, 2).contiguous() for level in levels]
        return dict(zip(_NAMES, levels, strict=True))


def _create_body(
    name: str, pretrained: bool, out_indices: tuple[int, ...], in_channels: int
) -> nn.Module:
    """Create the feature model; the many that know no ``strict_img_size`` take any size anyway."""
    options: dict[str, Any] = {
        "pretrained": pretrained,
        "features_only": True,
        "out_indices": out_indices,
        "in_chans": in_channels,
    }
    try:
        return timm.create_model(name, strict_img_size=False, **options)
    except TypeError:
        return timm.create_model(name, **options)


def _freeze_batch_norm(module: nn.Module) -> nn.Module:
    """Fix batch normalisation; the layers of timm that also activate keep their activation."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BatchNormAct2d):
                parent.add_module(name, freeze_batch_norm_2d(child))
    return FrozenBatchNorm2d.convert_frozen_batchnorm(module)


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build a timm backbone from ``MODEL.TIMM``.

    Args:
        cfg: configuration.
        input_shape: shape of the input; its channels are used.

    Returns:
        TimmBackbone: the backbone.
    """
    node = cfg.MODEL.TIMM
    return TimmBackbone(
        node.NAME,
        pretrained=node.PRETRAINED,
        out_indices=node.OUT_INDICES,
        freeze_bn=node.FREEZE_BN,
        in_channels=input_shape.channels or 3,
    )


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a feature pyramid network (Lin et al., 2017) on a timm backbone, for detectors.

    Args:
        cfg: configuration; ``MODEL.FPN`` as for ``build_resnet_fpn_backbone``.
        input_shape: shape of the input; its channels are used.

    Returns:
        FPN: gives p2 … p6, strides 4 to 64, of ``MODEL.FPN.OUT_CHANNELS`` channels.
    """
    node = cfg.MODEL.FPN
    return FPN(
        bottom_up=build_timm_backbone(cfg, input_shape),
        in_features=node.IN_FEATURES,
        out_channels=node.OUT_CHANNELS,
        norm=node.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=node.FUSE_TYPE,
    )
