"""Dot-product mask head (A2VIS, Sec. 3.4): an MLP on the prototypes times the clip's features."""

import torch
from torch import Tensor

from amodal2.layers import MLP


def dot_product_masks(embed: MLP, prototypes: Tensor, features: Tensor) -> Tensor:
    """Compute mask logits of every slot in every frame of a clip.

    Args:
        embed: the MLP gamma (visible, Sec. 3.4) or beta (amodal, Sec. 3.5).
        prototypes (Tensor[B, N, C]): prototypes.
        features (Tensor[B, T, C, h, w]): per-pixel features.

    Returns:
        Tensor[B, N, T, h, w]: logits.
    """
    return torch.einsum("bnc,btchw->bnthw", embed(prototypes), features)
