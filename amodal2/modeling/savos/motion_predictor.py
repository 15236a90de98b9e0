"""The motion predictor of SaVos (Sec. 3.1, Eq. 12): embedding and flow patch to residual motion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from amodal2.modeling.savos.layers import down_blocks, up_blocks


class MotionPredictor(nn.Module):
    """Decodes the residual of the object's motion (official: ``flow_decoder``)."""

    def __init__(self, base: int) -> None:
        """Build the decoder.

        Args:
            base: channels of the first block of the other parts, b; 32 in the paper. Here the first
                block has b / 2.
        """
        super().__init__()
        dim, half = 8 * base, max(1, base // 2)
        channels = (half, 2 * half, 4 * half, 8 * half, dim, dim)
        flat = nn.Sequential(nn.Flatten(), nn.Linear(dim, dim))
        self.last_flow_encoder = nn.Sequential(*down_blocks(2, channels), flat)
        joined = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.Unflatten(1, (2 * dim, 1, 1)))
        up = (dim, dim, 4 * base, 2 * base, base, 2)
        self.flow_decoder = nn.Sequential(joined, *up_blocks(2 * dim, up))

    def forward(self, embedding: Tensor, flow: Tensor) -> Tensor:
        """Decode residual motion.

        Args:
            embedding (Tensor[B, 8 b]): of the frames.
            flow (Tensor[B, 2, 64, 128]): observed flow (x, y) in pixels of the frame.

        Returns:
            Tensor[B, 2, 64, 128]: residual (x, y) in pixels of the frame.
        """
        encoded = self.last_flow_encoder(flow)
        return self.flow_decoder(torch.cat([embedding, encoded], dim=1))
