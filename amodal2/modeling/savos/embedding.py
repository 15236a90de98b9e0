"""The spatio-temporal embedding of SaVos (Sec. 3.1): a CNN per frame and an LSTM over time."""

from __future__ import annotations

from torch import Tensor, nn

from amodal2.modeling.savos.layers import down_blocks


class SpatioTemporalEncoder(nn.Module):
    """Embeds each frame of a track in what was seen before (official: ``st_encoder``)."""

    def __init__(self, base: int, in_channels: int = 6) -> None:
        """Build the encoder.

        Args:
            base: channels of the first block, b; 32 in the paper. The embedding has 8 b.
            in_channels: RGB, visible mask and flow.
        """
        super().__init__()
        dim = 8 * base
        channels = (base, 2 * base, 4 * base, dim, dim, 2 * dim)
        flat = nn.Sequential(nn.Flatten(), nn.Linear(2 * dim, dim))
        self.encoder = nn.Sequential(*down_blocks(in_channels, channels), flat)
        self.lstm = nn.LSTM(dim, dim, batch_first=True)

    def forward(self, patches: Tensor) -> Tensor:
        """Embed tracks.

        Args:
            patches (Tensor[B, T, 6, 64, 128]): RGB, visible mask, flow.

        Returns:
            Tensor[B, T, 8 b]: state of each frame.
        """
        features = self.encoder(patches.flatten(0, 1))
        return self.lstm(features.unflatten(0, patches.shape[:2]))[0]
