"""Properties of the parts that the golden files do not show."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from amodal2.modeling.c2f_seg.coarse_transformer import (
    CoarseTransformer,
    group_windows,
    ungroup_windows,
)
from amodal2.modeling.c2f_seg.decoding import (
    GreedyChoice,
    RandomChoice,
    decode_codes,
    hide_codes,
    top_probabilities,
)
from amodal2.modeling.c2f_seg.discriminator import PatchDiscriminator, hinge_loss
from amodal2.modeling.c2f_seg.paste import add_visible, paste_patch
from amodal2.modeling.c2f_seg.refine import RefineModule, semantic_attention
from amodal2.modeling.c2f_seg.vq_blocks import Upsample
from amodal2.modeling.c2f_seg.vq_mask import Codebook, MaskAutoencoder

K = 6


def predictor(batch, length, seed=0):
    """Return fixed logits for every position and code, whatever is known."""
    logits = torch.randn(batch, length, K + 1, generator=torch.Generator().manual_seed(seed))
    return lambda current: logits[: len(current)]


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_decode_codes_fills_all_and_keeps_what_is_sure(steps):
    seen = []
    predict = predictor(3, 16)

    def watched(current):
        seen.append(current)
        return predict(current)

    start = torch.full((3, 16), K)
    codes = decode_codes(watched, start, K, GreedyChoice(), steps=steps)
    assert len(seen) == steps
    assert int(codes.max()) < K
    for step, current in enumerate(seen[1:], 1):
        wanted = math.floor(16 * math.cos(0.5 * math.pi * step / steps))
        assert (current == K).sum(1).tolist() == [max(1, wanted)] * 3
        known = current != K
        assert torch.equal(codes[known], current[known])


def test_decode_codes_keeps_codes_that_are_given():
    start = torch.full((1, 16), K)
    start[0, :5] = 3
    codes = decode_codes(predictor(1, 16), start, K, GreedyChoice(), steps=2)
    assert (codes[0, :5] == 3).all()


def test_decode_codes_random_depends_on_the_generator_alone():
    start = torch.full((2, 16), K)

    def draw(seed):
        choice = RandomChoice(torch.Generator().manual_seed(seed))
        return decode_codes(predictor(2, 16), start, K, choice)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_decode_codes_without_steps_is_refused():
    with pytest.raises(ValueError, match="expected at least 1 step, got 0"):
        decode_codes(predictor(1, 4), torch.full((1, 4), K), K, GreedyChoice(), steps=0)


def test_top_probabilities_keeps_the_largest_and_sums_to_one():
    found = top_probabilities(torch.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)
    assert found[0, [0, 3]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(found.sum(), torch.tensor(1.0))
    assert (top_probabilities(torch.zeros(1, 2), 9) == 0.5).all()


def test_random_choice_noise_is_gumbel():
    noise = RandomChoice(torch.Generator().manual_seed(0)).noise(torch.empty(200, 500))
    assert abs(float(noise.mean()) - 0.5772) < 0.01
    assert abs(float(noise.var()) - math.pi**2 / 6) < 0.03


def test_hide_codes_hides_half_or_more_and_equally_many_of_each_group():
    codes = torch.arange(64).repeat(4, 1)
    counts = set()
    for _ in range(40):
        hidden = hide_codes(codes, 99, groups=2)
        kept = hidden != 99
        assert torch.equal(hidden[kept], codes[kept])
        number = (~kept).sum(1)
        assert number[0] == number[1]
        assert number[2] == number[3]
        assert 32 <= number.min()
        assert not torch.equal(kept[0], kept[1])
        counts.add(tuple(number.tolist()))
    assert any(a != c for a, _, c, _ in counts)


def test_windows_are_undone():
    x = torch.randn(2 * 4, 64, 3)
    grouped = group_windows(x, 4, 2)
    assert grouped.shape == (2 * 2 * 4, 2 * 16, 3)
    assert torch.equal(ungroup_windows(grouped, x.shape, 4, 2), x)
    frame = x.view(2, 4, 8, 8, 3)
    assert torch.equal(grouped[0].view(2, 4, 4, 3), frame[0, :2, :4, :4])


def test_video_transformer_refuses_frames_that_fill_no_window():
    model = CoarseTransformer(
        in_channels=4, width=8, heads=2, layers=1, codes=K, length=16, window=4
    )
    with pytest.raises(ValueError, match="multiples of the window of 4, got 3"):
        model(torch.zeros(3, 4, 4, 4), *torch.zeros(2, 3, 16, dtype=torch.long), 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 10}, "width in multiples of 4 and of 2 heads, got 10"),
        ({"length": 9, "window": 2}, "side in multiples of 4 for windows, got 9"),
    ],
)
def test_transformer_refuses_sizes(settings, message):
    with pytest.raises(ValueError, match=message):
        CoarseTransformer(**{"in_channels": 4, "width": 8, "heads": 2, "layers": 1} | settings)


def test_codebook_passes_gradients_to_the_features():
    book = Codebook(4, 3)
    features = torch.randn(2, 3, 2, 2, requires_grad=True)
    found = book(features)
    found.values.sum().backward()
    assert torch.equal(features.grad, torch.ones_like(features))
    assert book.embedding.weight.grad is None
    distances = torch.cdist(features.permute(0, 2, 3, 1).reshape(-1, 3), book.embedding.weight)
    assert torch.equal(found.indices.flatten(), distances.argmin(1))


def test_codebook_loss_weighs_codes_by_a_quarter():
    book = Codebook(1, 2)
    features = torch.ones(1, 2, 1, 1, requires_grad=True)
    with torch.no_grad():
        book.embedding.weight.zero_()
    loss = book(features).loss
    loss.backward()
    assert loss.item() == 1.25
    assert features.grad.flatten().tolist() == [1.0, 1.0]
    assert book.embedding.weight.grad.flatten().tolist() == [-0.25, -0.25]


def test_upsample_equals_the_convolution_of_the_doubled_map():
    layer = Upsample(3).double()
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    expected = layer.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(layer(x), expected)
    mix = torch.randn_like(expected)
    wanted = [x, *layer.parameters()]
    ours, theirs = (torch.autograd.grad((y * mix).sum(), wanted) for y in (layer(x), expected))
    torch.testing.assert_close(ours, theirs)


def test_autoencoder_refuses_widths_that_the_norm_cannot_split():
    with pytest.raises(ValueError, match="multiples of 32, got 24"):
        MaskAutoencoder(channels=24)
    narrow = MaskAutoencoder(channels=24, multipliers=(1, 1), groups=8, latent_channels=8, codes=4)
    assert narrow.encoder.norm_out.num_groups == narrow.decoder.norm_out.num_groups == 8


def test_discriminator_judge_fixed_reaches_the_masks_alone():
    judge = PatchDiscriminator(8)
    masks = torch.rand(2, 1, 32, 32, requires_grad=True)
    judged = judge.judge_fixed(masks)
    assert judged.shape == (2, 1, 6, 6)
    judged.sum().backward()
    assert masks.grad.abs().sum() > 0
    assert all(p.grad is None for p in judge.parameters())


def test_hinge_loss_is_zero_beyond_the_margins():
    assert hinge_loss(torch.tensor(1.0), torch.tensor(-2.0)) == 0.0
    assert hinge_loss(torch.tensor(0.0), torch.tensor(0.0)) == 1.0


def test_semantic_attention_of_an_empty_mask_is_uniform():
    found = semantic_attention(torch.randn(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    torch.testing.assert_close(found, torch.full((1, 1, 4, 4), 1 / 16))


def test_refinement_with_a_single_branch_has_no_visible_layers():
    module = RefineModule((4, 4, 4, 4), (4, 4, 4, 4, 4), single_branch=True).eval()
    assert not any("_vm" in name for name in module.state_dict())
    features = [torch.randn(1, 4, side, side) for side in (16, 8, 4, 4)]
    visible, amodal = module(features, torch.rand(1, 1, 64, 64))
    assert visible is None
    assert amodal.shape == (1, 1, 32, 32)


def test_paste_patch_refuses_crops_outside_the_image():
    with pytest.raises(ValueError, match=r"inside an image of \(8, 8\), got \(0, 4, 2, 6\)"):
        paste_patch(torch.ones(1, 4, 4), (0, 4, 2, 6), (8, 8))


def test_paste_patch_puts_pixels_where_they_were():
    patch = torch.arange(6.0).view(1, 2, 3)
    found = paste_patch(patch, (1, 2, 2, 3), (5, 6))
    assert torch.equal(found[:, 1:3, 2:5], patch)
    assert found.sum() == patch.sum()


def test_post_processing_adds_the_given_pixels():
    amodal = torch.tensor([True, True, False, False])
    visible = torch.tensor([True, False, True, False])
    assert add_visible(amodal, visible).tolist() == [True, True, True, False]
