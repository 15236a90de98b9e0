"""Custom operators: each has a PyTorch reference and, where ``amodal2._C`` is built, a kernel."""

from __future__ import annotations

from amodal2.ops._library import C_REASON, HAS_C, OpPath, op_path
from amodal2.ops._rle_text import join_texts, pack_texts, text_tensors
from amodal2.ops.conv3x3 import conv3x3
from amodal2.ops.mask_rle import mask_rle, mask_rle_decode
from amodal2.ops.mask_rle_measure import mask_rle_areas, mask_rle_intersections
from amodal2.ops.mask_warp import mask_warp
from amodal2.ops.masked_attention import masked_attention
from amodal2.ops.ms_deform_attn import ms_deform_attn

__all__ = [
    "C_REASON",
    "HAS_C",
    "OpPath",
    "conv3x3",
    "join_texts",
    "mask_rle",
    "mask_rle_areas",
    "mask_rle_decode",
    "mask_rle_intersections",
    "mask_warp",
    "masked_attention",
    "ms_deform_attn",
    "op_paths",
    "pack_texts",
    "text_tensors",
]

_OPS = (
    "conv3x3",
    "mask_rle",
    "mask_rle_areas",
    "mask_rle_decode",
    "mask_rle_intersections",
    "mask_splat",
    "mask_warp",
    "masked_attention",
    "ms_deform_attn",
)


def op_paths() -> dict[str, OpPath]:
    """Tell which implementation of every op runs, and why.

    Returns:
        dict[str, OpPath]: by the name of the op.
    """
    return {name: op_path(name) for name in _OPS}
