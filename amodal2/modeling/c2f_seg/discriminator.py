"""The patch discriminator of the VQ model's training and its hinge loss.

Shapes: B masks, S side in pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """PatchGAN with two strided layers: says of every patch whether it is real."""

    def __init__(self, width: int = 64) -> None:
        """Build the layers; ``main`` has the official numbering.

        Args:
            width: channels of the first layer.
        """
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for channels, stride in ((width, 2), (2 * width, 1)):
            layers += [
                nn.Conv2d(channels, 2 * channels, 4, stride, 1, bias=False),
                nn.BatchNorm2d(2 * channels),
                nn.LeakyReLU(0.2),
            ]
        self.main = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4, 1, 1))
        for module in self.main:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, masks: Tensor) -> Tensor:
        """Judge masks Tensor[B, 1, S, S]: Tensor[B, 1, S / 4 - 2, S / 4 - 2], positive is real."""
        return self.main(masks)

    def judge_fixed(self, masks: Tensor) -> Tensor:
        """Judge with fixed parameters: gradients reach the masks and nothing else."""
        fixed = {name: p.detach() for name, p in self.named_parameters()}
        return torch.func.functional_call(self, fixed, (masks,))


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's loss for its judgements of real and of reconstructed masks."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())
