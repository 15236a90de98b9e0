"""The mask completer of SaVos (Sec. 3.1): embedding and visible patch to amodal mask and alpha."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from amodal2.modeling.savos.layers import down_blocks, up_blocks

_SQUEEZE = 1e-6  # keeps probabilities that far from 0 and 1 together


class MaskCompleter(nn.Module):
    """Decodes the amodal mask of a frame (official: ``mask_decoder``)."""

    def __init__(self, base: int) -> None:
        """Build the decoder.

        Args:
            base: channels of the first block, b; 32 in the paper.
        """
        super().__init__()
        dim = 8 * base
        channels = (base, 2 * base, 4 * base, dim, dim, 2 * dim)
        self.down_networks = nn.Sequential(*down_blocks(1, channels))
        self.last_vm_map = nn.Sequential(nn.Flatten(), nn.Linear(2 * dim, dim))
        self.fm_deconv_map = nn.Sequential(
            nn.Linear(2 * dim, 2 * dim), nn.Unflatten(1, (2 * dim, 1, 1))
        )
        up = (dim, dim, 4 * base, 2 * base, base, 2)
        self.up_networks = nn.Sequential(*up_blocks(2 * dim, up))

    def forward(self, embedding: Tensor, patch: Tensor) -> Tensor:
        """Decode masks.

        Args:
            embedding (Tensor[B, 8 b]): of the frames.
            patch (Tensor[B, 1, 64, 128]): the visible mask (official: the horizontal flow).

        Returns:
            Tensor[B, 2, 64, 128]: probability of the whole object, and the logit of alpha.
        """
        seen = self.last_vm_map(self.down_networks(patch))
        joined = self.fm_deconv_map(torch.cat([embedding, seen], dim=1))
        decoded = self.up_networks(joined)
        mask = (1 - _SQUEEZE) * decoded[:, :1].sigmoid() + _SQUEEZE / 2
        return torch.cat([mask, decoded[:, 1:]], dim=1)
