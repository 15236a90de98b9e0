"""Neural blocks shared by two or more systems."""

from amodal2.layers.attention import (
    CrossAttentionLayer,
    FFNLayer,
    MultiheadAttention,
    SelfAttentionLayer,
    allow_all_where_none,
)
from amodal2.layers.convolution import Conv3x3
from amodal2.layers.mlp import MLP
from amodal2.layers.position_encoding import sine_position_2d, sine_position_3d

__all__ = [
    "MLP",
    "Conv3x3",
    "CrossAttentionLayer",
    "FFNLayer",
    "MultiheadAttention",
    "SelfAttentionLayer",
    "allow_all_where_none",
    "sine_position_2d",
    "sine_position_3d",
]
