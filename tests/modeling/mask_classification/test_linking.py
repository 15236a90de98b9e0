"""Linking of queries from frame to frame."""

import pytest
import torch

from amodal2.modeling.mask_classification.linking import (
    LinkState,
    QueryLinker,
    link_queries,
    track_scores,
)


def test_link_queries_permuted_embeddings_are_found_again() -> None:
    before = torch.randn(6, 16)
    order = torch.randperm(6)
    after = torch.rand(6, 1) * 5 * before[order] + 0.01 * torch.randn(6, 16)
    found = link_queries(before, after)
    assert torch.equal(order[found], torch.arange(6))


def test_linker_compares_with_the_last_frame_in_the_order_of_the_tracks() -> None:
    linker, state = QueryLinker(), LinkState()
    first = torch.eye(3)
    classes = torch.tensor([[4.0, 0.0], [0.0, 4.0], [2.0, 2.0]])
    permutations = [[0, 1, 2], [2, 0, 1], [1, 2, 0]]
    for permutation in permutations:
        order, state = linker(state, first[permutation], classes[permutation])
        assert torch.equal(first[permutation][order], first)
    assert torch.equal(state.logits, 3 * classes)
    torch.testing.assert_close(track_scores(state), classes.softmax(-1)[:, :-1])


@pytest.mark.parametrize(("decay", "frames"), [(1.0, 1), (1.0, 3), (0.5, 1), (0.5, 2)])
def test_linker_scores_are_the_weighted_mean_of_the_logits(decay: float, frames: int) -> None:
    linker, state = QueryLinker(decay), LinkState()
    classes = [torch.randn(2, 4) for _ in range(3)]
    for one in classes:
        _, state = linker(state, torch.eye(2), one, frames)
    weights = [decay ** (frames * i) for i in (2, 1, 0)]
    mean = sum(w * x for w, x in zip(weights, classes, strict=True)) / sum(weights)
    torch.testing.assert_close(track_scores(state), mean.softmax(-1)[:, :-1])
