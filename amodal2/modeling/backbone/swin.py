"""Swin Transformer for dense prediction, from timm's blocks (Swin, Sec. 3).

timm's own feature model pads after the cyclic shift, leaves out the shift where a level is no
larger than a window, and normalises no level. The detection backbone that Mask2Former's weights
were trained with pads first, always shifts and normalises every level, so the stages are put
together here, under its parameter names; what timm numbers otherwise (the patch merging, which it
counts to the next stage) is translated by :mod:`amodal2.checkpoint.backbones`.

Shapes: B images, h w patches, C channels; tensors of the stages are [B, h, w, C].
"""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from timm.layers import PatchEmbed
from timm.models.swin_transformer import (
    PatchMerging,
    SwinTransformerBlock,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn

_NAMES = ("res2", "res3", "res4", "res5")
_PATCH = 4


class PaddedSwinBlock(SwinTransformerBlock):
    """timm's block, padded to whole windows before the cyclic shift instead of after it."""

    def _attn(self, x: Tensor) -> Tensor:
        """Attend inside the windows of ``x`` (Tensor[B, h, w, C]); same shape."""
        height, width = x.shape[1:3]
        win_h, win_w = self.window_size
        shift_h, shift_w = self.shift_size
        x = F.pad(x, (0, 0, 0, -width % win_w, 0, -height % win_h))
        padded = x.shape[1:3]
        if shift_h or shift_w:
            x = x.roll((-shift_h, -shift_w), (1, 2))
        windows = window_partition(x, self.window_size).flatten(1, 2)
        windows = self.attn(windows, mask=self.get_attn_mask(x))
        x = window_reverse(windows.unflatten(1, (win_h, win_w)), self.window_size, *padded)
        if shift_h or shift_w:
            x = x.roll((shift_h, shift_w), (1, 2))
        return x[:, :height, :width]


class SwinStage(nn.Module):
    """Blocks of one level, every second one with shifted windows, and the merging after them.

    Args:
        dim: channels C of the level.
        num_heads: attention heads.
        window_size: patches per side of a window.
        drop_path: rate of stochastic depth of each block; their number is the depth.
        merge: whether a patch merging leads to a coarser level.
    """

    def __init__(
        self, dim: int, num_heads: int, window_size: int, drop_path: Sequence[float], merge: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                PaddedSwinBlock(
                    dim,
                    (window_size, window_size),
                    num_heads=num_heads,
                    window_size=window_size,
                    shift_size=window_size // 2 if i % 2 else 0,
                    always_partition=True,
                    dynamic_mask=True,
                    drop_path=rate,
                )
                for i, rate in enumerate(drop_path)
            )
        )
        self.downsample = PatchMerging(dim) if merge else None


class SwinBackbone(Backbone):
    """Swin Transformer with a LayerNorm on each of its four levels, officially named.

    Args:
        embed_dim: channels of the finest level; each coarser one has twice as many.
        depths: blocks of the four stages.
        num_heads: attention heads of the four stages.
        window_size: patches per side of a window.
        drop_path_rate: stochastic depth of the last block in [0, 1); rises linearly from 0.
        in_channels: channels of the input image.

    Raises:
        ValueError: if not four depths and head counts are given, or the heads do not divide the
            channels.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_size: int,
        drop_path_rate: float = 0.0,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if not len(depths) == len(num_heads) == len(_NAMES):
            raise ValueError(
                f"SwinBackbone: expected {len(_NAMES)} MODEL.SWIN.DEPTHS and NUM_HEADS, got "
                f"{tuple(depths)} and {tuple(num_heads)}"
            )
        dims = [embed_dim * 2**i for i in range(len(_NAMES))]
        if any(dim % heads for dim, heads in zip(dims, num_heads, strict=True)):
            raise ValueError(
                f"SwinBackbone: expected MODEL.SWIN.NUM_HEADS that divide {dims}, got "
                f"{tuple(num_heads)}"
            )
        self.patch_embed = PatchEmbed(
            img_size=None,
            patch_size=_PATCH,
            in_chans=in_channels,
            embed_dim=embed_dim,
            norm_layer=nn.LayerNorm,
            output_fmt="NHWC",
            strict_img_size=False,
            dynamic_img_pad=True,
        )
        last = max(sum(depths) - 1, 1)
        rates = [drop_path_rate * i / last for i in range(sum(depths))]
        self.layers = nn.ModuleList()
        for i, (dim, depth, heads) in enumerate(zip(dims, depths, num_heads, strict=True)):
            merge = i + 1 < len(_NAMES)
            self.layers.append(SwinStage(dim, heads, window_size, rates[:depth], merge))
            rates = rates[depth:]
        self._norms = [f"norm{i}" for i in range(len(_NAMES))]
        for name, dim in zip(self._norms, dims, strict=True):
            self.add_module(name, nn.LayerNorm(dim))
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self._out_features = list(_NAMES)
        self._out_feature_channels = dict(zip(_NAMES, dims, strict=True))
        self._out_feature_strides = {name: _PATCH * 2**i for i, name in enumerate(_NAMES)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the pyramid.

        Args:
            x (Tensor[B, 3, H, W]): normalised images of any size.

        Returns:
            dict[str, Tensor[B, c, H/s, W/s]]: res2 … res5, contiguous; sizes are rounded up.
        """
        x = self.patch_embed(x)
        levels = {}
        for name, norm, layer in zip(_NAMES, self._norms, self.layers, strict=True):
            stage = cast(SwinStage, layer)
            x = stage.blocks(x)
            levels[name] = self.get_submodule(norm)(x).permute(0, 3, 1, 2).contiguous()
            if stage.downsample is not None:
                x = stage.downsample(x)
        return levels


@BACKBONE_REGISTRY.register()
def build_swin_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SwinBackbone:
    """Build a Swin Transformer from ``MODEL.SWIN``.

    Args:
        cfg: configuration.
        input_shape: shape of the input; its channels are used.

    Returns:
        SwinBackbone: the backbone.
    """
    node = cfg.MODEL.SWIN
    return SwinBackbone(
        embed_dim=node.EMBED_DIM,
        depths=node.DEPTHS,
        num_heads=node.NUM_HEADS,
        window_size=node.WINDOW_SIZE,
        drop_path_rate=node.DROP_PATH_RATE,
        in_channels=input_shape.channels or 3,
    )
