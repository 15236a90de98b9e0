"""Names of Depth Anything V2: from the official files to transformers' (release 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_BLOCK, _NECK = r"^pretrained\.blocks\.(\d+)\.", "neck.reassemble_stage.layers."
_RULES: tuple[tuple[str, str], ...] = (
    (r"^pretrained\.cls_token$", "backbone.embeddings.cls_token"),
    (r"^pretrained\.pos_embed$", "backbone.embeddings.position_embeddings"),
    (r"^pretrained\.mask_token$", "backbone.embeddings.mask_token"),
    (r"^pretrained\.patch_embed\.proj\.", "backbone.embeddings.patch_embeddings.projection."),
    (r"^pretrained\.norm\.", "backbone.layernorm."),
    (_BLOCK + r"attn\.proj\.", r"backbone.encoder.layer.\1.attention.o_proj."),
    (_BLOCK + r"ls([12])\.gamma$", r"backbone.encoder.layer.\1.layer_scale\2.lambda1"),
    (_BLOCK, r"backbone.encoder.layer.\1."),
    (r"^depth_head\.projects\.(\d)\.", _NECK + r"\1.projection."),
    (r"^depth_head\.resize_layers\.(\d)\.", _NECK + r"\1.resize."),
    (r"^depth_head\.scratch\.output_conv1\.", "head.conv1."),
    (r"^depth_head\.scratch\.output_conv2\.0\.", "head.conv2."),
    (r"^depth_head\.scratch\.output_conv2\.2\.", "head.conv3."),
)

_LAYER = re.compile(r"^depth_head\.scratch\.layer(\d)_rn\.")
_FUSION = re.compile(r"^depth_head\.scratch\.refinenet(\d)\.")
_INSIDE = (
    ("out_conv.", "projection."),
    ("resConfUnit1.", "residual_layer1."),
    ("resConfUnit2.", "residual_layer2."),
    (".conv1.", ".convolution1."),
    (".conv2.", ".convolution2."),
)
_QKV = re.compile(r"^pretrained\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)$")

SIZES: dict[int, tuple[int, int, list[int], list[int], int]] = {
    384: (12, 6, [3, 6, 9, 12], [48, 96, 192, 384], 64),
    768: (12, 12, [3, 6, 9, 12], [96, 192, 384, 768], 128),
    1024: (24, 16, [5, 12, 18, 24], [256, 512, 1024, 1024], 256),
}
"""Width of the backbone to layers, heads, layers that are read out, widths of the neck and width of
the fusion: vits, vitb, vitl."""


def translate_depth_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the official entries.

    Args:
        state: name to tensor, as in ``depth_anything_v2_vits.pth``.

    Returns:
        dict: name to tensor of ``DepthAnythingForDepthEstimation``.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        qkv = _QKV.match(name)
        if qkv:
            layer = f"backbone.encoder.layer.{qkv[1]}.attention"
            for part, values in zip("qkv", value.chunk(3), strict=True):
                found[f"{layer}.{part}_proj.{qkv[2]}"] = values
        else:
            found[_rename(name)] = value
    return found


def _rename(name: str) -> str:
    layer, fusion = _LAYER.match(name), _FUSION.match(name)
    if layer:
        return f"neck.convs.{int(layer[1]) - 1}.{name[layer.end() :]}"
    if fusion:
        rest = name[fusion.end() :]
        for old, new in _INSIDE:
            rest = rest.replace(old, new)
        return f"neck.fusion_stage.layers.{4 - int(fusion[1])}.{rest}"
    for pattern, new in _RULES:
        renamed, count = re.subn(pattern, new, name)
        if count:
            return renamed
    return name


def network_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of ``DepthAnythingConfig`` that fit official weights.

    Args:
        state: name to tensor, as in ``depth_anything_v2_vits.pth``.

    Returns:
        dict: keyword arguments, and under "backbone" those of ``Dinov2Config``.

    Raises:
        ValueError: if they are of none of the three sizes.
    """
    width = state["pretrained.cls_token"].shape[-1]
    if width not in SIZES:
        raise ValueError(
            f"network_arguments: expected a backbone of width {sorted(SIZES)}, got {width}"
        )
    layers, heads, indices, neck, fusion = SIZES[width]
    return {
        "backbone": {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "image_size": 518,
            "patch_size": 14,
            "out_indices": indices,
            "apply_layernorm": True,
            "reshape_hidden_states": False,
        },
        "patch_size": 14,
        "reassemble_hidden_size": width,
        "neck_hidden_sizes": neck,
        "fusion_hidden_size": fusion,
        "head_hidden_size": 32,
    }
