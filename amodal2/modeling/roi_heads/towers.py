"""Convolutions, upsampler and predictor of Mask R-CNN, registered on a head under any names.

Official weights have the layers of several towers side by side in one module, so they are added to
the head itself. Shapes: N regions, C channels, S side of the pooled features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn


@dataclass(frozen=True)
class TowerSettings:
    """Sizes of a tower.

    Attributes:
        in_channels (int): of the pooled features.
        conv_dim (int): of all layers.
        num_conv (int): 3x3 convolutions.
        norm (str): their normalisation, as ``detectron2.layers.get_norm`` takes it.
        num_classes (int): K; 1 for class-agnostic masks.
    """

    in_channels: int
    conv_dim: int
    num_conv: int
    norm: str
    num_classes: int

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> TowerSettings:
        """Read ``MODEL.ROI_MASK_HEAD``."""
        node = cfg.MODEL.ROI_MASK_HEAD
        classes = 1 if node.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES
        return cls(input_shape.channels, node.CONV_DIM, node.NUM_CONV, node.NORM, classes)


def add_convs(head: nn.Module, name: str, settings: TowerSettings) -> None:
    """Register ``<name>1`` to ``<name>n``: 3x3 convolutions with norm and ReLU.

    Args:
        head: gets the layers.
        name: e.g. "mask_fcn".
        settings: sizes.
    """
    channels = settings.in_channels
    for k in range(settings.num_conv):
        conv = Conv2d(
            channels,
            settings.conv_dim,
            kernel_size=3,
            padding=1,
            bias=not settings.norm,
            norm=get_norm(settings.norm, settings.conv_dim),
            activation=nn.ReLU(),
        )
        weight_init.c2_msra_fill(conv)
        head.add_module(f"{name}{k + 1}", conv)
        channels = settings.conv_dim


def add_predictor(head: nn.Module, deconv: str, predictor: str, settings: TowerSettings) -> None:
    """Register a 2x2 deconvolution of stride 2 and a 1x1 convolution to K channels.

    Args:
        head: gets the layers.
        deconv: name of the first.
        predictor: name of the second.
        settings: sizes.
    """
    channels = settings.conv_dim if settings.num_conv else settings.in_channels
    up = ConvTranspose2d(channels, settings.conv_dim, kernel_size=2, stride=2)
    weight_init.c2_msra_fill(up)
    last = Conv2d(settings.conv_dim, settings.num_classes, kernel_size=1)
    nn.init.normal_(last.weight, std=0.001)
    nn.init.zeros_(last.bias)
    head.add_module(deconv, up)
    head.add_module(predictor, last)


def run_convs(head: nn.Module, name: str, x: Tensor) -> Tensor:
    """Apply the layers of :func:`add_convs`.

    Args:
        head: has the layers.
        name: as there.
        x (Tensor[N, C, S, S]): pooled features.

    Returns:
        Tensor[N, C, S, S]: features.
    """
    k = 1
    while hasattr(head, f"{name}{k}"):
        x = getattr(head, f"{name}{k}")(x)
        k += 1
    return x


def run_predictor(head: nn.Module, deconv: str, predictor: str, x: Tensor) -> Tensor:
    """Apply the layers of :func:`add_predictor`.

    Args:
        head: has the layers.
        deconv: as there.
        predictor: as there.
        x (Tensor[N, C, S, S]): features.

    Returns:
        Tensor[N, K, 2 S, 2 S]: logits.
    """
    return getattr(head, predictor)(getattr(head, deconv)(x).relu())
