"""Masking in training and iterative decoding in tests (C2F-Seg, Sec. 3.2; MaskGIT).

Shapes: B masks, L positions, K codes (index K is MASK).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor


class CodeChoice(ABC):
    """Chooses codes and says how confidence is disturbed."""

    @abstractmethod
    def codes(self, probabilities: Tensor) -> Tensor:
        """Choose a code of every position: Tensor[B, L, K] to int64 Tensor[B, L]."""

    @abstractmethod
    def noise(self, like: Tensor) -> Tensor:
        """Return what is added to the log probabilities, Tensor[B, L]; scaled by a temperature."""


class GreedyChoice(CodeChoice):
    """Takes the likeliest codes without noise, so that equal inputs give equal masks."""

    def codes(self, probabilities: Tensor) -> Tensor:
        """Return the largest, see :class:`CodeChoice`."""
        return probabilities.argmax(dim=-1)

    def noise(self, like: Tensor) -> Tensor:
        """Return zeros, see :class:`CodeChoice`."""
        return torch.zeros_like(like)


class RandomChoice(CodeChoice):
    """Draws codes by their probabilities, and Gumbel noise (official)."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        """Store the generator; None takes the global one of the device."""
        self.generator = generator

    def codes(self, probabilities: Tensor) -> Tensor:
        """Draw, see :class:`CodeChoice`."""
        flat = probabilities.flatten(0, 1)
        drawn = torch.multinomial(flat, 1, replacement=True, generator=self.generator)
        return drawn.view(probabilities.shape[:2])

    def noise(self, like: Tensor) -> Tensor:
        """Draw from the Gumbel distribution, see :class:`CodeChoice`."""
        return -torch.empty_like(like).exponential_(generator=self.generator).log()


def top_probabilities(logits: Tensor, top_k: int) -> Tensor:
    """Return the probabilities of the ``top_k`` largest logits of the last axis, 0 for the others.

    Equal logits at the border all stay. More than there are takes all.
    """
    least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf).softmax(dim=-1)


def decode_codes(
    predict: Callable[[Tensor], Tensor],
    start: Tensor,
    mask_index: int,
    choice: CodeChoice,
    *,
    steps: int = 3,
    top_k: int = 3,
    temperature: float = 4.5,
) -> Tensor:
    """Fill in codes step by step, the surest first.

    Each step chooses a code for all unknown positions and makes the least sure ones unknown again:
    floor(L cos(pi/2 t / steps)) after step t, of each mask by itself. The last step keeps all.

    Args:
        predict: from codes Tensor[B, L] to logits Tensor[B, L, K + 1].
        start (Tensor[B, L]): int64, K where unknown.
        mask_index: K.
        choice: of the codes.
        steps: at least 1.
        top_k: codes that a position chooses from.
        temperature: of the noise on the confidence; it falls linearly to 0 at the last step.

    Returns:
        Tensor[B, L]: int64 in [0, K).
    """
    current = start
    for step in range(1, steps + 1):
        probabilities = top_probabilities(predict(current)[..., :mask_index], top_k)
        unknown = current == mask_index
        chosen = torch.where(unknown, choice.codes(probabilities), current)
        if step == steps:
            return chosen
        share = step / steps
        wanted = math.floor(start.shape[1] * math.cos(0.5 * math.pi * share))
        count = (unknown.sum(dim=1) - 1).clamp(max=wanted).clamp(min=1)
        sure = probabilities.gather(2, chosen[..., None])[..., 0].log()
        sure = sure + temperature * (1.0 - share) * choice.noise(sure)
        sure = sure.masked_fill(~unknown, math.inf)
        limit = sure.sort(dim=1).values.gather(1, count[:, None])
        current = torch.where(sure < limit, mask_index, chosen)
    raise ValueError(f"decode_codes: expected at least 1 step, got {steps}")


def hide_codes(codes: Tensor, mask_index: int, groups: int = 1) -> Tensor:
    """Replace random codes by MASK, for training.

    One share for the batch: max(cos(pi/2 u), 1/2) with u uniform in [0, 1], so a third of the
    batches hide half of the codes and the others more; the positions differ by mask.

    Args:
        codes (Tensor[B, L]): int64.
        mask_index: K.
        groups: clips in the batch, each with a share of its own.

    Returns:
        Tensor[B, L]: a copy.
    """
    batch, length = codes.shape
    drawn = torch.rand(groups, 1, 1, device=codes.device)
    share = torch.cos(0.5 * math.pi * drawn).clamp(min=0.5)
    count = (length * share).floor()
    ranks = torch.rand(groups, batch // groups, length, device=codes.device).argsort(2).argsort(2)
    return codes.masked_fill((ranks < count).view(batch, length), mask_index)
