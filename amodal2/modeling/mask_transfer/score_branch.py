"""The score branch: do query and reference show objects of one shape (Sec. 3.3).

Shapes: P pairs, V concepts, h w cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal2.modeling.mask_transfer.voting_branch import VoteFilter, peaks


class ScoreBranch(nn.Module):
    """Votes with a filter of its own and classifies what supports the best vote.

    Args:
        num_concepts: V.
        k: side of w2.
        norm: of the votes.
    """

    def __init__(self, num_concepts: int, k: int, norm: str) -> None:
        super().__init__()
        self.filter = VoteFilter(num_concepts, k, norm)
        self.support_norm = nn.LayerNorm(num_concepts)
        self.mean_norm = nn.LayerNorm(num_concepts)
        self.classifier = nn.Sequential(
            nn.Linear(2 * num_concepts + 6, 256), nn.ReLU(), nn.Linear(256, 1)
        )

    def forward(
        self,
        votes: Tensor,
        valid: Tensor,
        queries: Tensor,
        query_sizes: Tensor,
        references: Tensor,
        reference_sizes: Tensor,
    ) -> Tensor:
        """Score pairs.

        Args:
            votes (Tensor[P, Hz, Wz]): Z' of this branch's filter.
            valid (Tensor[P, Hz, Wz]): bool, with a True per pair.
            queries (Tensor[P, V, h_q, w_q]): concepts.
            query_sizes (Tensor[P, 2]): true heights and widths in cells.
            references (Tensor[P, V, h_r, w_r]): concepts.
            reference_sizes (Tensor[P, 2]): as ``query_sizes``.

        Returns:
            Tensor[P]: logits y.
        """
        if len(votes) == 0:
            return votes.new_zeros(0)
        place = peaks(votes.detach(), valid).long()
        support = correlation_at(queries, references, place)
        means = F.normalize(queries.sum(dim=(2, 3))) * F.normalize(references.sum(dim=(2, 3)))
        highest = votes.masked_fill(~valid, -torch.inf).amax(dim=(1, 2))
        average = (votes * valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2))
        summary = torch.stack([highest, average], dim=1)
        fit = _fit(place, queries.shape[-2:], query_sizes, reference_sizes)
        parts = [self.support_norm(support), summary, fit, self.mean_norm(means)]
        return self.classifier(torch.cat(parts, dim=1))[:, 0]


def _fit(place: Tensor, padded: torch.Size, query_sizes: Tensor, reference_sizes: Tensor) -> Tensor:
    """Return how large the query is and where it lies, in sizes of the reference (Tensor[P, 4])."""
    ratio = query_sizes / reference_sizes
    corner = (place - place.new_tensor(padded)) / reference_sizes
    return torch.cat([ratio.log(), corner + ratio / 2 - 0.5], dim=1)


def correlation_at(queries: Tensor, references: Tensor, places: Tensor) -> Tensor:
    """Return C at one vote per pair, without the whole volume.

    Args:
        queries (Tensor[P, V, h_q, w_q]): concepts.
        references (Tensor[P, V, h_r, w_r]): concepts.
        places (Tensor[P, 2]): u, int64, order (y, x).

    Returns:
        Tensor[P, V]: how much each concept supports the vote.
    """
    height, width = queries.shape[-2:]
    padded = F.pad(references, (width, width, height, height))
    rows = places[:, :1] + torch.arange(height, device=places.device)  # [P, h_q]
    columns = places[:, 1:] + torch.arange(width, device=places.device)
    index = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).flatten(1)  # [P, h_q w_q]
    index = index[:, None].expand(-1, queries.shape[1], -1)
    return (padded.flatten(2).gather(2, index) * queries.flatten(2)).sum(dim=2)


def score_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy.

    Args:
        logits (Tensor[P]): y; P = 0 gives 0.
        labels (Tensor[P]): 1 for positive pairs, 0 for negative ones.

    Returns:
        Tensor[]: the mean.
    """
    if len(logits) == 0:
        return logits.sum()
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
