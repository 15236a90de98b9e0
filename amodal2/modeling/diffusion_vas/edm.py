"""EDM as Stable Video Diffusion is trained with it (Karras et al. 2022; official training code).

Letters: B clips, T frames, h w latents.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_INSIDE = 1e-7
"""Uniform draws are kept this far from 0 and 1, where the normal quantile is infinite."""


class Preconditioning(NamedTuple):
    """Factors of D(x; sigma) = skip x + out F(in x; noise) with v-prediction.

    Attributes:
        skip (Tensor[B]): 1 / (sigma^2 + 1).
        out (Tensor[B]): -sigma / sqrt(sigma^2 + 1).
        inner (Tensor[B]): 1 / sqrt(sigma^2 + 1), on the network's input.
        noise (Tensor[B]): 0.25 ln sigma, the time that the network is told.
        weight (Tensor[B]): (1 + sigma^2) / sigma^2, of the squared error.
    """

    skip: Tensor
    out: Tensor
    inner: Tensor
    noise: Tensor
    weight: Tensor

    @classmethod
    def of(cls, sigma: Tensor) -> Preconditioning:
        """Compute the factors.

        Args:
            sigma (Tensor[B]): noise levels, positive.
        """
        square = sigma**2 + 1
        return cls(
            skip=1 / square,
            out=-sigma / square.sqrt(),
            inner=1 / square.sqrt(),
            noise=0.25 * sigma.log(),
            weight=square / sigma**2,
        )


def draw_sigma(count: int, mean: float, std: float, device: torch.device) -> Tensor:
    """Draw noise levels whose logarithm is normal, by the inverse of its distribution.

    Args:
        count: B.
        mean: of ln sigma.
        std: of ln sigma.
        device: of the result; its global generator is used.

    Returns:
        Tensor[B]: float32, positive.
    """
    uniform = torch.rand(count, device=device) * (1 - 2 * _INSIDE) + _INSIDE
    return (mean + std * torch.special.ndtri(uniform)).exp()


def spread(factor: Tensor, video: Tensor) -> Tensor:
    """Give a factor per clip the dimensions of videos.

    Args:
        factor (Tensor[B]): one number per clip.
        video (Tensor[B, ...]): what it is to be multiplied with.

    Returns:
        Tensor[B, 1, ...]: a view.
    """
    return factor.reshape(-1, *[1] * (video.dim() - 1))


def denoise(noisy: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
    """Turn the network's output into a denoised video.

    Args:
        noisy (Tensor[B, T, C, h, w]): z0 + sigma * noise.
        output (Tensor[B, T, C, h, w]): of the network.
        sigma (Tensor[B]): noise levels.

    Returns:
        Tensor[B, T, C, h, w]: D(noisy; sigma).
    """
    factors = Preconditioning.of(sigma)
    return spread(factors.skip, noisy) * noisy + spread(factors.out, noisy) * output


def denoising_loss(denoised: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
    """Return the weighted mean squared error in float32.

    Args:
        denoised (Tensor[B, T, C, h, w]): of :func:`denoise`.
        target (Tensor[B, T, C, h, w]): z0.
        sigma (Tensor[B]): noise levels.

    Returns:
        Tensor[]: the loss.
    """
    error = (denoised.float() - target.float()) ** 2
    return (spread(Preconditioning.of(sigma).weight, error) * error).mean()
