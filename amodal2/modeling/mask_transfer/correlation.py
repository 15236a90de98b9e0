"""Votes of a query over references: depthwise cross-correlation C, then the filter w2.

    C[v, u] = Σ_p Y_q[v, p] · pad(Y_r)[v, u + p],   Z = w2 ∗ C

The reference is padded with zeros by the full query size on every side (Sec. 3.2), so that index u
of Z means that the query's top-left cell lies at cell t = u - (h_q, w_q) of the reference. Both
steps are linear, so that in the frequency domain one inverse transform per pair gives Z:

    Z = IRFFT2(Σ_v RFFT2(Y_r)_v · conj RFFT2(Y_q)_v · conj RFFT2(w2)_v)

Shapes: P pairs, Q queries, R references, V concepts, h w cells, k side of w2, F frequencies.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# Cells of the queries from which transforms are faster, measured with 128 concepts on one thread:
# of pairs with their gradients, and against references whose spectra are not kept.
_FFT_FROM_PAIR_CELLS = 24
_FFT_FROM_CELLS = 150
_CACHED_BYTES = 1 << 30
_CHUNK = 256
_GOOD_FACTORS = (2, 3, 5)


def vote_shape(reference: Tensor, query: Tensor) -> tuple[int, int]:
    """Return height and width of Z for maps [..., h_r, w_r] and [..., h_q, w_q]."""
    return (
        reference.shape[-2] + query.shape[-2] + 1,
        reference.shape[-1] + query.shape[-1] + 1,
    )


def correlate_pairs(queries: Tensor, references: Tensor, w2: Tensor) -> Tensor:
    """Vote for pairs; differentiable in all three.

    Args:
        queries (Tensor[P, V, h_q, w_q]): concepts, padded with zeros below and to the right.
        references (Tensor[P, V, h_r, w_r]): the same of the references.
        w2 (Tensor[V, k, k]): filter over the concepts, k odd.

    Returns:
        Tensor[P, h_r + h_q + 1, w_r + w_q + 1]: Z; offsets follow the padded query size.
    """
    if queries.shape[-2] * queries.shape[-1] >= _FFT_FROM_PAIR_CELLS:
        return fft_pairs(queries, references, w2)
    return convolve_pairs(queries, references, w2)


def convolve_pairs(queries: Tensor, references: Tensor, w2: Tensor) -> Tensor:
    """Vote for pairs by a grouped convolution; arguments and result as ``correlate_pairs``."""
    pairs, concepts, height, width = queries.shape
    padded = F.pad(references, (width, width, height, height))
    volume = F.conv2d(
        padded.reshape(1, pairs * concepts, *padded.shape[-2:]),
        queries.reshape(pairs * concepts, 1, height, width),
        groups=pairs * concepts,
    )
    volume = volume.view(pairs, concepts, *volume.shape[-2:])
    return F.conv2d(volume, w2[None], padding=w2.shape[-1] // 2)[:, 0]


def fft_pairs(queries: Tensor, references: Tensor, w2: Tensor) -> Tensor:
    """Vote for pairs by transforms; arguments and result as ``correlate_pairs``."""
    size = fft_size(references.shape[-2:], queries.shape[-2:], w2.shape[-1])
    product = torch.fft.rfft2(references, s=size) * torch.fft.rfft2(queries, s=size).conj()
    spectrum = (product * torch.fft.rfft2(w2, s=size).conj()).sum(dim=1)
    return _unroll(torch.fft.irfft2(spectrum, s=size), queries, references, w2)


def convolve_bank(query: Tensor, references: Tensor, w2: Tensor) -> Tensor:
    """Vote for one query against all references by a grouped convolution.

    Args:
        query (Tensor[V, h_q, w_q]): concepts.
        references (Tensor[R, V, h_r, w_r]): concepts.
        w2 (Tensor[V, k, k]): filter over the concepts.

    Returns:
        Tensor[R, h_r + h_q + 1, w_r + w_q + 1]: Z.
    """
    concepts, height, width = query.shape
    padded = F.pad(references, (width, width, height, height))
    volume = F.conv2d(padded, query[:, None], groups=concepts)
    return F.conv2d(volume, w2[None], padding=w2.shape[-1] // 2)[:, 0]


class BankSpectra:
    """References of which the spectra, times that of w2, are made once for all queries.

    Kept spectra are always faster than a grouped convolution (measured from queries of one cell
    on); where they would have to be made anew, that depends on the number of cells that vote.

    Args:
        references (Tensor[R, V, h_r, w_r]): concepts of any float type.
        w2 (Tensor[V, k, k]): filter over the concepts.
        keep: keep spectra of at most 1 GiB; larger ones are made anew, a part at a time.
    """

    def __init__(self, references: Tensor, w2: Tensor, *, keep: bool = True) -> None:
        self.references, self.w2, self.keep = references, w2, keep
        self._size: tuple[int, int] | None = None
        self._kept: list[Tensor] = []

    def votes(self, queries: Tensor) -> Tensor:
        """Vote for every query against every reference, not differentiable.

        Args:
            queries (Tensor[Q, V, h_q, w_q]): concepts, padded below and to the right.

        Returns:
            Tensor[Q, R, h_r + h_q + 1, w_r + w_q + 1]: Z.
        """
        size = self._common_size(queries)
        cells = len(queries) * queries.shape[-2] * queries.shape[-1]
        with torch.no_grad():
            if self._can_keep(size) or cells >= _FFT_FROM_CELLS:
                return self._transform(queries, size)
            references = self.references.to(queries.dtype)
            return torch.stack([convolve_bank(q, references, self.w2) for q in queries])

    def _transform(self, queries: Tensor, size: tuple[int, int]) -> Tensor:
        spectrum = torch.fft.rfft2(queries, s=size).conj()  # [Q, V, n, m]
        columns = spectrum.flatten(2).permute(2, 1, 0).contiguous()  # [F, V, Q]
        parts = [torch.bmm(part, columns) for part in self._spectra(size)]  # [F, R', Q]
        joined = torch.cat(parts, dim=1).permute(2, 1, 0)  # [Q, R, F]
        votes = torch.fft.irfft2(joined.unflatten(2, (size[0], size[1] // 2 + 1)), s=size)
        return _unroll(votes, queries, self.references, self.w2)

    def _common_size(self, queries: Tensor) -> tuple[int, int]:
        """Return a size of the transform that queries up to the references' size share.

        It only grows while spectra are kept, so that long and wide queries in turn do not have
        them made anew.
        """
        own = self.references.shape[-2:]
        larger = (max(queries.shape[-2], own[0]), max(queries.shape[-1], own[1]))
        size = fft_size(own, larger, self.w2.shape[-1])
        if self._size is None:
            return size
        grown = (max(size[0], self._size[0]), max(size[1], self._size[1]))
        return grown if self._can_keep(grown) else size

    def _can_keep(self, size: tuple[int, int]) -> bool:
        count, concepts = self.references.shape[:2]
        return self.keep and 8 * count * concepts * size[0] * (size[1] // 2 + 1) <= _CACHED_BYTES

    def _spectra(self, size: tuple[int, int]) -> Iterator[Tensor]:
        """Yield the spectra (complex [F, R', V]) of parts of the references."""
        if self._size == size:
            yield from self._kept
            return
        count, keep = len(self.references), self._can_keep(size)
        self._size, self._kept = None, []
        filters = torch.fft.rfft2(self.w2.detach(), s=size).conj()
        made = []
        for start in range(0, count, _CHUNK):
            part = self.references[start : start + _CHUNK].to(self.w2.dtype)
            spectrum = torch.fft.rfft2(part, s=size) * filters
            spectrum = spectrum.flatten(2).permute(2, 0, 1).contiguous()
            if keep:
                made.append(spectrum)
            yield spectrum
        if keep:
            self._size, self._kept = size, made


def fft_size(
    reference: tuple[int, ...] | torch.Size, query: tuple[int, ...] | torch.Size, k: int
) -> tuple[int, int]:
    """Return the smallest good size of a transform that holds all votes without wrapping round.

    Args:
        reference: h_r, w_r.
        query: h_q, w_q.
        k: side of w2.

    Returns:
        tuple: height and width, each a product of 2, 3 and 5 (the width even).
    """
    rows, columns = (r + q + 1 + 2 * (k // 2) for r, q in zip(reference, query, strict=True))
    return _good_size(rows), 2 * _good_size((columns + 1) // 2)


def _good_size(least: int) -> int:
    size = least
    while True:
        rest = size
        for factor in _GOOD_FACTORS:
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1


def _unroll(votes: Tensor, queries: Tensor, references: Tensor, w2: Tensor) -> Tensor:
    """Bring cyclic votes (Tensor[..., n, m]) into the order of u."""
    height, width = vote_shape(references, queries)
    half = w2.shape[-1] // 2
    shift = (queries.shape[-2] + half, queries.shape[-1] + half)
    return torch.roll(votes, shift, dims=(-2, -1))[..., :height, :width]
