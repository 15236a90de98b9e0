"""Recorded attention: a distribution inside the prior masks, and no trace afterwards."""

import pytest
import torch
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the model
from amodal2.layers import MultiheadAttention
from tests.modeling.tiny import make_sample, tiny_config

SLOTS = [3, 1]


def run(*changes):
    """Run two clips; return the maps, their outputs and the outputs without recording."""
    torch.manual_seed(0)
    model = build_model(tiny_config(*changes)).eval()
    frames = make_sample(0)["frames"]
    outputs = []
    with model.record_attention(SLOTS) as found:
        state = model.start()
        for start in (0, 2):
            output, state = model.forward_clip(frames[start : start + 2], state)
            outputs.append(output)
        assert len(found) == 2
    plain, _ = model.forward_clip(frames[:2], model.start())
    assert len(found) == 2
    return model, found, outputs, plain


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("MODEL.A2VIS.SAMH.SHARE_LAYERS", True),
        ("MODEL.A2VIS.SAMH.USE_VSPM", False),
        ("MODEL.A2VIS.SAMH.ATTN_STRIDE", 8),
    ],
)
def test_weights_are_a_distribution_inside_the_prior_masks(changes):
    _, found, outputs, plain = run(*changes)
    torch.testing.assert_close(outputs[0].amodal_logits, plain.amodal_logits)
    for maps in found:
        prior = maps.visible_prior | maps.amodal_prior
        assert maps.weights.shape == (2, 2, *prior.shape[1:])
        torch.testing.assert_close(maps.weights.sum((1, 2, 3)), torch.ones(2))
        for slot in range(2):
            if prior[slot].any():
                assert not maps.weights[slot][:, ~prior[slot]].any()
            else:
                assert maps.weights[slot].all()


def test_visible_prior_is_the_union_over_the_clip():
    _, found, outputs, _ = run()
    for maps, output in zip(found, outputs, strict=True):
        expected = (output.visible_logits[SLOTS] > 0).any(1)
        assert torch.equal(maps.visible_prior, expected)


def test_prior_that_is_not_in_use_is_empty_and_without_both_the_attention_is_everywhere():
    _, found, _, _ = run("MODEL.A2VIS.SAMH.USE_VSPM", False, "MODEL.A2VIS.SAMH.USE_ASPM", False)
    for maps in found:
        assert not maps.visible_prior.any()
        assert not maps.amodal_prior.any()
        assert maps.weights.all()


def test_record_attention_without_samh_raises():
    model = build_model(tiny_config("MODEL.A2VIS.SAMH.ENABLED", False))
    with pytest.raises(ValueError, match=r"expected MODEL\.A2VIS\.SAMH\.ENABLED True, got False"):
        model.record_attention([0])


def test_attention_weights_give_the_read_out_of_one_head():
    layer = MultiheadAttention(8, 1).double()
    torch.nn.init.normal_(layer.in_proj_bias)
    query, key, value = (torch.randn(2, n, 8, dtype=torch.float64) for n in (3, 10, 10))
    allow = torch.rand(2, 3, 5) > 0.5
    allow[0, 0] = False
    weights = layer.weights(query, key, allow)
    values = torch.nn.functional.linear(
        value, layer.in_proj_weight.chunk(3)[2], layer.in_proj_bias.chunk(3)[2]
    )
    torch.testing.assert_close(layer.out_proj(weights @ values), layer(query, key, value, allow))
