"""Scale, votes and scores."""

import math

import pytest
import torch
from torch import nn

from amodal2.modeling.mask_transfer.correlation import convolve_pairs
from amodal2.modeling.mask_transfer.patches import rescale, stack_padded, whole_box
from amodal2.modeling.mask_transfer.scale_net import (
    ScaleNet,
    build_scale_net,
    scale_loss,
    scale_of,
    true_scale,
)
from amodal2.modeling.mask_transfer.score_branch import ScoreBranch, correlation_at, score_loss
from amodal2.modeling.mask_transfer.visual_concepts import PatchEncoder, VisualConceptLayer
from amodal2.modeling.mask_transfer.voting_branch import (
    VoteFilter,
    peaks,
    target_votes,
    valid_votes,
    vote_loss,
    vote_places,
)
from tests.modeling.mask_transfer.toy import ToyBackbone


def sizes_of(*maps):
    return torch.tensor([m.shape[-2:] for m in maps])


@pytest.mark.parametrize("norm", ["pair", "ncc", "none"])
def test_query_cut_out_of_a_reference_votes_for_its_centre(norm):
    torch.manual_seed(0)
    reference = torch.rand(5, 8, 12)
    query = reference[:, 2:6, 5:10]
    branch = VoteFilter(5, 1, norm)
    nn.init.ones_(branch.weight)
    if norm != "ncc":
        reference = reference - 0.5
        query = query - 0.5
    arguments = (query[None], sizes_of(query), reference[None], sizes_of(reference))
    votes = branch(*arguments)
    valid = valid_votes(sizes_of(query), sizes_of(reference), (4, 5), votes.shape[1:])
    middle = torch.tensor([[4.0, 6.0]])
    centre = vote_places(peaks(votes, valid), middle, (4, 5))
    assert centre.tolist() == [[2.0, 1.0]]
    assert vote_places(centre, middle, (4, 5)).tolist() == peaks(votes, valid).tolist()


def test_padding_changes_no_vote():
    torch.manual_seed(0)
    query, reference = torch.rand(3, 2, 4), torch.rand(3, 5, 3)
    branch = VoteFilter(3, 3, "ncc")
    plain = branch(query[None], sizes_of(query), reference[None], sizes_of(reference))
    queries = stack_padded([query, torch.rand(3, 4, 5)])[:1]
    references = stack_padded([reference, torch.rand(3, 6, 6)])[:1]
    votes = branch(queries, sizes_of(query), references, sizes_of(reference))
    valid = valid_votes(sizes_of(query), sizes_of(reference), (4, 5), votes.shape[1:])
    assert votes[valid].shape == plain.flatten().shape
    torch.testing.assert_close(votes[valid], plain.flatten(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("k", "norm"), [(2, "pair"), (3, "max")])
def test_vote_filter_bad_settings_are_refused(k, norm):
    with pytest.raises(ValueError, match="odd K2 and a NORM"):
        VoteFilter(4, k, norm)


def test_peaks_subpixel_finds_the_top_of_a_parabola():
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(9.0), indexing="ij")
    votes = -((y - 3.3) ** 2) - (x - 4.8) ** 2
    valid = torch.ones(1, 7, 9, dtype=torch.bool)
    assert peaks(votes[None], valid).tolist() == [[3.0, 5.0]]
    torch.testing.assert_close(peaks(votes[None], valid, subpixel=True), torch.tensor([[3.3, 4.8]]))
    valid[:, 3:] = False
    assert peaks(votes[None], valid).tolist() == [[2.0, 5.0]]


def test_vote_loss_target_is_best_and_a_blank_map_is_not():
    valid = torch.ones(1, 9, 11, dtype=torch.bool)
    places = torch.tensor([[4.0, 5.5]])
    target = target_votes(places, valid, 0.05)
    assert target.max() < 1
    assert target[0, 4, 5] == target[0, 4, 6] == pytest.approx(math.exp(-0.125))
    assert float(vote_loss(target, places, valid, 0.05)) == pytest.approx(0.0, abs=1e-6)
    assert float(vote_loss(torch.zeros_like(target), places, valid, 0.05)) > 0.3
    assert float(vote_loss(target[:0], places[:0], valid[:0], 0.05)) == 0.0


def test_correlation_at_is_the_volume_at_the_peak():
    torch.manual_seed(0)
    queries, references = torch.rand(2, 3, 2, 3), torch.rand(2, 3, 4, 3)
    places = torch.tensor([[1, 6], [6, 0]])
    found = correlation_at(queries, references, places)
    for v in range(3):
        w2 = torch.zeros(3, 1, 1)
        w2[v] = 1
        volume = convolve_pairs(queries, references, w2)
        torch.testing.assert_close(found[:, v], volume[[0, 1], places[:, 0], places[:, 1]])


def test_score_branch_without_pairs_gives_nothing():
    branch = ScoreBranch(3, 3, "pair")
    empty = torch.zeros(0, 3, 2, 2)
    valid = torch.zeros(0, 5, 5, dtype=torch.bool)
    sizes = torch.zeros(0, 2, dtype=torch.int64)
    logits = branch(torch.zeros(0, 5, 5), valid, empty, sizes, empty, sizes)
    assert logits.shape == (0,)
    assert float(score_loss(logits, valid[:, 0, 0])) == 0.0


def test_score_branch_does_not_see_padding():
    torch.manual_seed(0)
    branch = ScoreBranch(3, 1, "pair").eval()
    query, reference = torch.rand(1, 3, 2, 3), torch.rand(1, 3, 4, 3)
    sizes = (sizes_of(query), sizes_of(reference))

    def score(query, reference):
        votes = branch.filter(query, sizes[0], reference, sizes[1])
        valid = valid_votes(*sizes, tuple(query.shape[2:]), votes.shape[1:])
        return branch(votes, valid, query, sizes[0], reference, sizes[1])

    padded = (nn.functional.pad(maps, (0, 2, 0, 1)) for maps in (query, reference))
    torch.testing.assert_close(score(query, reference), score(*padded))


def test_concepts_are_blind_to_the_strength_of_the_features():
    torch.manual_seed(0)
    layer = VisualConceptLayer(4, 3)
    features = torch.rand(1, 4, 2, 2)
    torch.testing.assert_close(layer(features), layer(7 * features))
    assert layer(features).min() >= 0


def test_encoder_patch_does_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    encoder = PatchEncoder(ToyBackbone(3), "res", 4, 8, 5)
    patches = [torch.rand(3, 8, 10), torch.rand(3, 8, 12), torch.rand(3, 5, 5)]
    maps = encoder(patches)
    assert [tuple(m.shape) for m in maps] == [(5, 2, 3), (5, 2, 3), (5, 2, 2)]
    for patch, found in zip(patches, maps, strict=True):
        torch.testing.assert_close(encoder([patch])[0], found)


def test_scale_net_starts_with_the_scale_of_the_box():
    torch.manual_seed(0)
    net = ScaleNet(nn.Conv2d(4, 8, 4, 4), 8)
    sizes = torch.tensor([[20.0, 64.0]])
    ratio = net(torch.rand(1, 4, 16, 16), sizes)
    assert scale_of(ratio, sizes, 32).tolist() == [20 / 32]
    assert scale_of(torch.tensor([9.0]), sizes, 32).tolist() == pytest.approx(
        [math.exp(1.6) * 20 / 32]
    )
    truth = torch.tensor([true_scale((0, -10, 64, 30), 32)])
    assert truth.tolist() == [40 / 32]
    assert float(scale_loss(torch.log(torch.tensor([2.0])), truth, sizes, 32)) == 0.0
    assert float(scale_loss(ratio.detach(), truth, sizes, 32)) == pytest.approx(math.log(2) - 0.05)


def test_scale_net_mask_changes_nothing_before_training():
    torch.manual_seed(0)
    net = build_scale_net(18, with_mask=True)
    nn.init.normal_(net.ratio.weight)
    pictures, sizes = torch.rand(2, 4, 32, 32), torch.full((2, 2), 9.0)
    blank = torch.cat([pictures[:, :3], torch.zeros(2, 1, 32, 32)], dim=1)
    torch.testing.assert_close(net(pictures, sizes), net(blank, sizes))
    torch.testing.assert_close(net(pictures, sizes)[:1], net(pictures[:1], sizes[:1]))
    with pytest.raises(ValueError, match=r"depth of \[18, 34, 50\], got 7"):
        build_scale_net(7, with_mask=True)


def test_true_scale_of_a_flat_box_is_refused():
    with pytest.raises(ValueError, match="amodal box with a size"):
        true_scale((3, 3, 3, 9), 32)


@pytest.mark.parametrize(
    ("box", "context", "expected"),
    [
        ((2.2, 3.0, 6.5, 8.0), 1.0, (2, 3, 7, 8)),
        ((2.0, 4.0, 6.0, 8.0), 2.0, (0, 2, 8, 10)),
        ((4.0, 4.0, 4.0, 8.0), 1.0, None),
        ((30.0, 4.0, 40.0, 8.0), 1.0, None),
        ((-5.0, -5.0, 40.0, 40.0), 1.0, (0, 0, 20, 10)),
    ],
)
def test_whole_box_stays_inside_or_is_nothing(box, context, expected):
    assert whole_box(box, (10, 20), context) == expected


def test_rescale_keeps_the_exact_scale_and_the_limit():
    patch = rescale(torch.rand(3, 20, 31), 2.0, 100, (5.0, 6.0))
    assert patch.size == (10, 16)
    assert patch.scale == (31 / 16, 2.0)
    assert rescale(torch.rand(3, 20, 31), 0.01, 62).size == (40, 62)
    assert rescale(torch.rand(3, 1, 40), 10.0, 62).size == (1, 4)


def test_votes_without_a_common_cell_can_be_left_out():
    sizes = torch.tensor([[2, 3]]), torch.tensor([[4, 5]])
    whole = valid_votes(*sizes, (3, 3), (8, 9))
    inner = valid_votes(*sizes, (3, 3), (8, 9), border=False)
    assert (int(whole.sum()), int(inner.sum())) == (7 * 9, 5 * 7)
    assert not (inner & ~whole).any()
    # A query of ones over a reference of ones: the votes left out are those without any sum.
    found = convolve_pairs(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 4, 5), torch.ones(1, 1, 1))
    assert (found[0] > 0.5).equal(valid_votes(*sizes, (2, 3), (7, 9), border=False)[0])


def test_target_of_one_cell():
    valid = torch.ones(1, 4, 6, dtype=torch.bool)
    target = target_votes(torch.tensor([[1.4, 2.6]]), valid, 0.0)
    assert target.nonzero().tolist() == [[0, 1, 3]]
    assert target.sum() == 1


def test_concepts_of_features_as_they_are():
    unit, plain = VisualConceptLayer(4, 3), VisualConceptLayer(4, 3, unit=False)
    plain.load_state_dict(unit.state_dict())
    features = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(unit(3 * features), unit(features))
    torch.testing.assert_close(plain(3 * features), 3 * plain(features))
