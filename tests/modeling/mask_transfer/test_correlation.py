import pytest
import torch

from amodal2.modeling.mask_transfer import correlation
from amodal2.modeling.mask_transfer.correlation import (
    BankSpectra,
    convolve_pairs,
    correlate_pairs,
    fft_pairs,
    fft_size,
)


def loops(query, reference, w2):
    """The definition, cell by cell."""
    concepts, hq, wq = query.shape
    _, hr, wr = reference.shape
    volume = query.new_zeros(concepts, hr + hq + 1, wr + wq + 1)
    for v in range(concepts):
        for y in range(hr + hq + 1):
            for x in range(wr + wq + 1):
                for py in range(hq):
                    for px in range(wq):
                        ry, rx = y + py - hq, x + px - wq
                        if 0 <= ry < hr and 0 <= rx < wr:
                            volume[v, y, x] += query[v, py, px] * reference[v, ry, rx]
    k = w2.shape[-1]
    votes = query.new_zeros(volume.shape[1:])
    for y in range(votes.shape[0]):
        for x in range(votes.shape[1]):
            for dy in range(k):
                for dx in range(k):
                    ry, rx = y + dy - k // 2, x + dx - k // 2
                    if 0 <= ry < votes.shape[0] and 0 <= rx < votes.shape[1]:
                        votes[y, x] += (w2[:, dy, dx] * volume[:, ry, rx]).sum()
    return votes


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("way", [convolve_pairs, fft_pairs, correlate_pairs])
@pytest.mark.parametrize(
    ("query", "reference", "k"), [((2, 3), (3, 2), 3), ((1, 1), (2, 3), 1), ((4, 2), (1, 3), 3)]
)
def test_votes_are_those_of_the_definition(way, query, reference, k):
    torch.manual_seed(0)
    queries, references, w2 = draw(2, 3, *query), draw(2, 3, *reference), draw(3, k, k)
    expected = [loops(q, r, w2) for q, r in zip(queries, references, strict=True)]
    torch.testing.assert_close(way(queries, references, w2), torch.stack(expected))


def test_fft_pairs_gradients_are_right():
    torch.manual_seed(0)
    arguments = (draw(1, 2, 2, 3), draw(1, 2, 3, 2), draw(2, 3, 3))
    assert torch.autograd.gradcheck(fft_pairs, [a.requires_grad_() for a in arguments])


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("size", [(2, 3), (9, 12)])
def test_bank_votes_are_those_of_pairs_and_do_not_change_when_kept(keep, size):
    torch.manual_seed(0)
    queries, references, w2 = draw(2, 4, *size), draw(5, 4, 6, 7), draw(4, 3, 3)
    bank = BankSpectra(references, w2, keep=keep)
    first, second = bank.votes(queries), bank.votes(queries)
    for q in range(2):
        expected = convolve_pairs(queries[q].expand(5, -1, -1, -1), references, w2)
        torch.testing.assert_close(first[q], expected)
        torch.testing.assert_close(second[q], expected)


def test_bank_votes_of_a_chunked_bank_are_the_same(monkeypatch):
    torch.manual_seed(0)
    queries, references, w2 = draw(1, 3, 13, 13), draw(7, 3, 5, 4), draw(3, 3, 3)
    whole = BankSpectra(references, w2).votes(queries)
    monkeypatch.setattr(correlation, "_CHUNK", 2)
    monkeypatch.setattr(correlation, "_CACHED_BYTES", 0)
    torch.testing.assert_close(BankSpectra(references, w2).votes(queries), whole)


def test_bank_votes_do_not_depend_on_the_other_queries():
    torch.manual_seed(0)
    queries, references, w2 = draw(3, 4, 5, 5), draw(6, 4, 6, 7), draw(4, 3, 3)
    bank = BankSpectra(references, w2)
    torch.testing.assert_close(bank.votes(queries)[1], bank.votes(queries[1:2])[0])


def test_bank_makes_spectra_once_for_long_and_wide_queries_in_turn(monkeypatch):
    torch.manual_seed(0)
    references, w2 = draw(5, 4, 6, 7), draw(4, 3, 3)
    queries = [draw(1, 4, *size) for size in ((12, 5), (5, 16), (3, 3))]
    bank = BankSpectra(references, w2)
    for query in queries:  # the size of the transforms has grown to fit all of them
        bank.votes(query)
    transformed = []
    stock = torch.fft.rfft2
    monkeypatch.setattr(
        torch.fft, "rfft2", lambda maps, s: transformed.append(maps.shape) or stock(maps, s=s)
    )
    for query in queries:
        expected = convolve_pairs(query.expand(5, -1, -1, -1), references, w2)
        torch.testing.assert_close(bank.votes(query)[0], expected)
    assert transformed == [query.shape for query in queries]


def test_fft_size_holds_all_votes_and_has_small_factors():
    assert fft_size((14, 28), (14, 28), 3) == (32, 60)
    assert fft_size((6, 6), (5, 4), 1) == (12, 12)
