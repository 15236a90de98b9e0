"""Masks that are products of slot embeddings and pixel features, computed where they are needed.

Matching reads the masks of all slots at some points, the losses read whole masks of the matched
slots alone. As both sampling and product are linear, the points are sampled from the features;
the logits of slots without an object are never made.

Shapes: B images or clips, N slots, T frames, C channels, P points.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from amodal2.modeling.mask_classification.points import sample_points


@dataclass
class SlotMasks:
    """Mask logits of the slots of one clip.

    Attributes:
        embed (Tensor[N, C]): mask embeddings.
        features (Tensor[T, C, h, w]): pixel features.
    """

    embed: Tensor
    features: Tensor

    def __len__(self) -> int:
        """Return the number of slots."""
        return len(self.embed)

    def __getitem__(self, slots: Tensor) -> Tensor:
        """Return the logits of some slots.

        Args:
            slots (Tensor[M]): int64.

        Returns:
            Tensor[M, T, h, w]: logits.
        """
        return torch.einsum("nc,tchw->nthw", self.embed[slots], self.features)

    def detach(self) -> "SlotMasks":
        """Return the same masks without gradient."""
        return SlotMasks(self.embed.detach(), self.features.detach())

    def at_points(self, points: Tensor) -> Tensor:
        """Sample all masks at the same points of every frame, in float32.

        Args:
            points (Tensor[1, P, 2]): coordinates as in ``points.py``.

        Returns:
            Tensor[N, T*P]: logits, frame slowest.
        """
        with torch.autocast(self.embed.device.type, enabled=False):
            features = self.features.float()
            pixels = sample_points(features, points.expand(len(features), -1, -1))  # [T, C, P]
            return torch.einsum("nc,tcp->ntp", self.embed.float(), pixels).flatten(1)


@dataclass
class BatchMasks:
    """Mask logits of a batch of clips.

    Attributes:
        embed (Tensor[X*B, N, C]): mask embeddings; several sets X may share the features of a clip.
        features (Tensor[B, T, C, h, w]): pixel features.
    """

    embed: Tensor
    features: Tensor

    def __getitem__(self, i: int) -> SlotMasks:
        """Return the masks of one entry of the batch."""
        return SlotMasks(self.embed[i], self.features[i % len(self.features)])

    def zero(self) -> Tensor:
        """Return a zero that all masks lead to (Tensor[])."""
        return self.embed.sum() * 0.0 + self.features.sum() * 0.0
