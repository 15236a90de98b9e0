"""The VQ model of masks (C2F-Seg, Sec. 3.1): a mask becomes a grid of codes and comes back.

Shapes: B masks, S side in pixels, E channels of a code, K codes, h side of the code grid, L = h * h
codes of a mask in row-major order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal2.modeling.c2f_seg.vq_blocks import Decoder, Encoder

BETA = 0.25
CPU_PIXELS = 2**15
"""Of the masks that a CPU encodes at once; with more the finest maps would leave its caches."""


@dataclass(frozen=True)
class Quantised:
    """Features replaced by their nearest codes.

    Attributes:
        values (Tensor[B, E, h, h]): the codes; gradients pass to the features.
        indices (Tensor[B, L]): int64.
        loss (Tensor[]): moves features and codes towards each other.
    """

    values: Tensor
    indices: Tensor
    loss: Tensor


class Codebook(nn.Module):
    """K learned vectors and the choice of the nearest one."""

    def __init__(self, codes: int, channels: int) -> None:
        """Draw the codes uniformly in [-1/K, 1/K]."""
        super().__init__()
        self.embedding = nn.Embedding(codes, channels)
        nn.init.uniform_(self.embedding.weight, -1.0 / codes, 1.0 / codes)

    def forward(self, features: Tensor) -> Quantised:
        """Quantise Tensor[B, E, h, h].

        The loss weighs the move of the codes by 0.25 and that of the features by 1, as the official
        code does (the reverse of the VQ-VAE paper).
        """
        indices = self.nearest(features)
        codes = self.lookup(indices, features.shape[-2:])
        to_codes = F.mse_loss(features, codes.detach())
        loss = to_codes + BETA * F.mse_loss(codes, features.detach())
        return Quantised(features + (codes - features).detach(), indices, loss)

    def nearest(self, features: Tensor) -> Tensor:
        """Return the indices of the nearest codes, Tensor[B, L]."""
        flat = features.detach().permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        codes = self.embedding.weight.detach()
        distances = flat.square().sum(1, keepdim=True) + codes.square().sum(1)
        distances = distances.addmm(flat, codes.t(), alpha=-2.0)
        return distances.argmin(dim=1).view(len(features), -1)

    def lookup(self, indices: Tensor, size: Sequence[int]) -> Tensor:
        """Return the codes Tensor[B, E, h, h] of indices Tensor[B, L]."""
        codes = self.embedding(indices)
        return codes.transpose(1, 2).unflatten(2, tuple(size))


class MaskAutoencoder(nn.Module):
    """Encoder, codebook and decoder (official ``g_model``).

    Raises:
        ValueError: if a level's width is no multiple of the groups of the normalisation.
    """

    def __init__(
        self,
        *,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        blocks: int = 2,
        latent_channels: int = 256,
        code_channels: int = 256,
        codes: int = 256,
        groups: int = 32,
    ) -> None:
        """Build the layers.

        Args:
            channels: of the finest level before its multiplier.
            multipliers: one per level; the code grid has stride 2^(levels - 1).
            blocks: residual blocks per level.
            latent_channels: of encoder output and decoder input.
            code_channels: E.
            codes: K.
            groups: of the normalisations.
        """
        super().__init__()
        if channels % groups:
            raise ValueError(
                f"MaskAutoencoder: expected channels in multiples of {groups}, got {channels}"
            )
        self.stride = 2 ** (len(multipliers) - 1)
        parts = {"multipliers": multipliers, "blocks": blocks, "groups": groups}
        self.encoder = Encoder(channels=channels, **parts, out_channels=latent_channels)  # type: ignore[arg-type]
        self.decoder = Decoder(channels=channels, **parts, in_channels=latent_channels)  # type: ignore[arg-type]
        self.quantize = Codebook(codes, code_channels)
        self.quant_conv = nn.Conv2d(latent_channels, code_channels, 1)
        self.post_quant_conv = nn.Conv2d(code_channels, latent_channels, 1)

    def encode(self, masks: Tensor) -> Tensor:
        """Return the features before quantisation.

        Args:
            masks (Tensor[B, 1, S, S]): float in [0, 1].

        Returns:
            Tensor[B, E, h, h]: float.
        """
        return self.quant_conv(self.encoder(masks))

    def decode(self, values: Tensor, step: int = 1) -> Tensor:
        """Map codes Tensor[B, E, h, h] to masks without bounds; see ``Decoder``."""
        return self.decoder(self.post_quant_conv(values), step)

    def forward(self, masks: Tensor) -> tuple[Tensor, Quantised]:
        """Return the reconstruction Tensor[B, 1, S, S] of masks, and their codes."""
        found = self.quantize(self.encode(masks))
        return self.decode(found.values), found

    @torch.no_grad()
    def indices(self, masks: Tensor) -> Tensor:
        """Return the codes of masks.

        Args:
            masks (Tensor[B, S, S]): bool, or float in [0, 1].

        Returns:
            Tensor[B, L]: int64 in [0, K).
        """
        # Codes are discrete: half precision would choose others.
        on_cpu = masks.device.type == "cpu"
        at_once = max(1, CPU_PIXELS // masks.shape[-1] ** 2 if on_cpu else len(masks))
        with torch.autocast(masks.device.type, enabled=False):
            found = [
                self.quantize.nearest(self.encode(part[:, None].to(self.quant_conv.weight.dtype)))
                for part in masks.split(at_once)
            ]
        return torch.cat(found)

    @torch.no_grad()
    def coarse_masks(self, indices: Tensor, step: int = 1) -> Tensor:
        """Return the masks that codes stand for.

        Args:
            indices (Tensor[B, L]): int64 in [0, K); L is a square number.
            step: take the pixels of every so many rows and columns only.

        Returns:
            Tensor[B, 1, S / step, S / step]: float in [0, 1].
        """
        side = round(indices.shape[1] ** 0.5)
        return self.decode(self.quantize.lookup(indices, (side, side)), step).clamp(0.0, 1.0)
