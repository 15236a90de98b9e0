"""The voting branch: where the centre of the whole object lies, seen from a query (Sec. 3.2).

Coordinates are cells with the origin at a patch's outer top-left edge, order (y, x). Index u of the
votes means that the query's corner lies at t = u - (h_q, w_q) of the reference; with the centre c_r
of the reference the centre of the whole object in the query's own frame is ĉ_q = c_r - t. Shapes:
P pairs, V concepts, h w cells; maps are padded to common sizes, ``sizes`` are the true ones.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal2.modeling.mask_transfer.correlation import correlate_pairs

NORMS = ("pair", "ncc", "none")
_EPS = 1e-6
_START = 0.2


class VoteFilter(nn.Module):
    """The filter w2 and how votes are normalised and read.

    Args:
        num_concepts: V.
        k: side of w2, odd.
        norm: one of ``NORMS``.

    Raises:
        ValueError: if ``k`` is even or ``norm`` unknown.
    """

    def __init__(self, num_concepts: int, k: int, norm: str) -> None:
        super().__init__()
        if k % 2 == 0 or norm not in NORMS:
            raise ValueError(
                f"VoteFilter: expected an odd K2 and a NORM of {NORMS}, got {k} and {norm!r}"
            )
        self.norm = norm
        # At the start every concept counts alike, where it is; the factor makes votes of order one.
        weight = 0.01 * torch.randn(num_concepts, k, k) / math.sqrt(num_concepts)
        weight[:, k // 2, k // 2] += _START
        self.weight = nn.Parameter(weight)

    def forward(
        self, queries: Tensor, query_sizes: Tensor, references: Tensor, reference_sizes: Tensor
    ) -> Tensor:
        """Vote for pairs.

        Args:
            queries (Tensor[P, V, h_q, w_q]): concepts.
            query_sizes (Tensor[P, 2]): true heights and widths in cells, int64.
            references (Tensor[P, V, h_r, w_r]): concepts.
            reference_sizes (Tensor[P, 2]): as ``query_sizes``.

        Returns:
            Tensor[P, h_r + h_q + 1, w_r + w_q + 1]: Z, normalised.
        """
        votes = correlate_pairs(queries, references, self.weight)
        return self.normalize(votes, queries, query_sizes, references)

    def normalize(
        self, votes: Tensor, queries: Tensor, query_sizes: Tensor, references: Tensor
    ) -> Tensor:
        """Divide votes by what the strength of both patches explains.

        Args:
            votes (Tensor[P, Hz, Wz]): Z.
            queries (Tensor[P, V, h_q, w_q]): concepts.
            query_sizes (Tensor[P, 2]): true sizes in cells.
            references (Tensor[P, V, h_r, w_r]): concepts; P may be expanded.

        Returns:
            Tensor[P, Hz, Wz]: normalised.
        """
        if self.norm == "none":
            return votes
        query = queries.flatten(1).norm(dim=1)[:, None, None]
        if self.norm == "pair":
            reference = references.flatten(1).norm(dim=1)[:, None, None]
            return votes / (query * reference + _EPS).sqrt()
        local = _norm_under_query(references, query_sizes, queries.shape[-2:], votes.shape[-2:])
        return votes / (query * local + _EPS)


def _norm_under_query(
    references: Tensor, query_sizes: Tensor, padded: torch.Size, shape: torch.Size
) -> Tensor:
    """Return the norm of each reference under its query at every vote (Tensor[P, Hz, Wz])."""
    height, width = padded
    energy = F.pad(references.square().sum(dim=1), (width, width, height, height))
    found = []
    for one, (h, w) in zip(energy, query_sizes.tolist(), strict=True):
        sums = F.avg_pool2d(one[None, None], (h, w), stride=1)[0, 0] * (h * w)
        found.append(sums[: shape[0], : shape[1]].clamp(min=0).sqrt())
    return torch.stack(found)


def valid_votes(
    query_sizes: Tensor,
    reference_sizes: Tensor,
    padded: tuple[int, int],
    shape: tuple[int, int],
    *,
    border: bool = True,
) -> Tensor:
    """Tell which votes exist without the padding of query and reference.

    Args:
        query_sizes (Tensor[P, 2]): true sizes in cells.
        reference_sizes (Tensor[P, 2]): true sizes in cells.
        padded: padded height and width of the queries.
        shape: height and width of Z.
        border: keep the outermost votes, where query and reference touch without a common cell.

    Returns:
        Tensor[P, Hz, Wz]: bool.
    """
    inside, less = [], 0 if border else 1
    for axis in (0, 1):
        t = torch.arange(shape[axis], device=query_sizes.device) - padded[axis]
        low, high = -query_sizes[:, axis, None], reference_sizes[:, axis, None]
        inside.append((t >= low + less) & (t <= high - less))
    return inside[0][:, :, None] & inside[1][:, None, :]


def target_votes(places: Tensor, valid: Tensor, sigma: float) -> Tensor:
    """Return Gaussians of height 1, or single cells of 1.

    Args:
        places (Tensor[P, 2]): u* in cells, order (y, x).
        valid (Tensor[P, Hz, Wz]): bool; elsewhere the target is 0.
        sigma: standard deviation as a share of the shorter valid side, at least one cell; 0 gives
            the nearest cell alone.

    Returns:
        Tensor[P, Hz, Wz]: Z*.
    """
    if sigma == 0:
        rows = torch.arange(valid.shape[1], device=places.device) == places[:, :1].round()
        columns = torch.arange(valid.shape[2], device=places.device) == places[:, 1:].round()
        return (rows[:, :, None] & columns[:, None, :] & valid).to(places.dtype)
    sides = torch.stack([valid.any(2).sum(1), valid.any(1).sum(1)], dim=1)
    width = (sigma * sides.amin(dim=1)).clamp(min=1.0)[:, None]
    rows = torch.arange(valid.shape[1], device=places.device) - places[:, :1]
    columns = torch.arange(valid.shape[2], device=places.device) - places[:, 1:]
    bell_y, bell_x = (torch.exp(-0.5 * (d / width) ** 2) for d in (rows, columns))
    return bell_y[:, :, None] * bell_x[:, None, :] * valid


def vote_loss(votes: Tensor, places: Tensor, valid: Tensor, sigma: float) -> Tensor:
    """Return the squared error to the target, relative to the mean of the target.

    Without the division a blank map would be nearly the best.

    Args:
        votes (Tensor[P, Hz, Wz]): Z of positive pairs; P = 0 gives 0.
        places (Tensor[P, 2]): u* in cells.
        valid (Tensor[P, Hz, Wz]): bool.
        sigma: as in ``target_votes``.

    Returns:
        Tensor[]: the mean over the pairs.
    """
    if len(votes) == 0:
        return votes.sum()
    target = target_votes(places, valid, sigma)
    cells = valid.sum(dim=(1, 2))
    error = ((votes - target).square() * valid).sum(dim=(1, 2)) / cells
    return (error / (target.sum(dim=(1, 2)) / cells).clamp(min=_EPS)).mean()


def peaks(votes: Tensor, valid: Tensor, *, subpixel: bool = False) -> Tensor:
    """Return where the votes are highest.

    Args:
        votes (Tensor[P, Hz, Wz]): Z.
        valid (Tensor[P, Hz, Wz]): bool, with a True per pair.
        subpixel: fit a parabola through the neighbours along each axis.

    Returns:
        Tensor[P, 2]: u in cells, order (y, x), float.
    """
    width = votes.shape[2]
    masked = votes.masked_fill(~valid, -torch.inf)
    best = masked.flatten(1).argmax(dim=1)
    place = torch.stack([best // width, best % width], dim=1)
    if not subpixel:
        return place.to(votes.dtype)
    pairs = torch.arange(len(votes), device=votes.device)
    padded = F.pad(masked, (1, 1, 1, 1), value=-torch.inf)
    y, x = place[:, 0] + 1, place[:, 1] + 1
    middle = padded[pairs, y, x]
    shifts = [
        _parabola(padded[pairs, y - 1, x], middle, padded[pairs, y + 1, x]),
        _parabola(padded[pairs, y, x - 1], middle, padded[pairs, y, x + 1]),
    ]
    return place + torch.stack(shifts, dim=1)


def _parabola(before: Tensor, middle: Tensor, after: Tensor) -> Tensor:
    """Return the place of the maximum relative to the middle, 0 at a border and on flat ground."""
    bend = before - 2 * middle + after
    usable = torch.isfinite(bend) & (bend < 0)
    bend = torch.where(usable, bend, torch.ones_like(bend))
    shift = 0.5 * torch.where(usable, before - after, torch.zeros_like(bend)) / bend
    return shift.clamp(-0.5, 0.5)


def vote_places(centres: Tensor, reference_centres: Tensor, padded: tuple[int, int]) -> Tensor:
    """Return u* = c_r - c_q + (h_q, w_q).

    Args:
        centres (Tensor[P, 2]): true centres c_q in the queries' frames, cells, order (y, x); they
            may lie outside the patch.
        reference_centres (Tensor[P, 2]): c_r in cells.
        padded: padded height and width of the queries.

    Returns:
        Tensor[P, 2]: places in Z; the same formula turns places back into centres.
    """
    return reference_centres - centres + reference_centres.new_tensor(padded)
