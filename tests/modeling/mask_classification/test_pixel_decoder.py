"""Initialisation and precision of the pixel decoder."""

import pytest
import torch
from detectron2.layers import ShapeSpec

from amodal2.modeling.mask_classification.pixel_decoder import (
    MSDeformAttn,
    MSDeformAttnPixelDecoder,
)
from amodal2.modeling.mask_classification.transformer_decoder import (
    MultiScaleMaskedTransformerDecoder,
)

_SHAPES = {
    name: ShapeSpec(channels=8, stride=stride)
    for name, stride in (("res2", 4), ("res3", 8), ("res4", 16), ("res5", 32))
}


def build(**changes) -> MSDeformAttnPixelDecoder:
    options = {
        "conv_dim": 32,
        "mask_dim": 16,
        "norm": "GN",
        "num_heads": 8,
        "enc_layers": 1,
        "enc_hidden_dim": 32,
        "enc_points": 4,
    }
    return MSDeformAttnPixelDecoder(_SHAPES, **(options | changes))


def features(size: int = 64) -> dict[str, torch.Tensor]:
    return {
        name: torch.randn(1, 8, size // s.stride, size // s.stride) for name, s in _SHAPES.items()
    }


def test_deform_attn_points_start_on_eight_rays() -> None:
    attention = MSDeformAttn(32, 8, 3, 4)
    bias = attention.sampling_offsets.bias.view(8, 3, 4, 2)
    rays = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    expected = torch.tensor(rays, dtype=torch.float32)[:, None, None] * torch.arange(1.0, 5.0).view(
        1, 1, 4, 1
    )
    torch.testing.assert_close(bias, expected.expand_as(bias), atol=1e-5, rtol=0)
    zeros = (
        attention.sampling_offsets.weight,
        attention.attention_weights.weight,
        attention.attention_weights.bias,
        attention.value_proj.bias,
    )
    assert all(float(x.abs().max()) == 0 for x in zeros)


def test_decoder_embeddings_start_standard_normal() -> None:
    decoder = MultiScaleMaskedTransformerDecoder(
        in_channels=32,
        num_classes=3,
        hidden_dim=64,
        num_queries=100,
        num_heads=8,
        hidden_ffn=32,
        num_layers=1,
        mask_dim=16,
    )
    for embedding in (decoder.query_feat, decoder.query_embed):
        assert float(embedding.weight.std()) == pytest.approx(1.0, abs=0.05)
    assert len(decoder.input_proj) == 3


@pytest.mark.parametrize("amp", [False, True])
def test_pixel_decoder_leaves_float32_only_if_asked(amp: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        mask_features, _, _ = build(amp=amp)(features())
    assert mask_features.dtype == (torch.bfloat16 if amp else torch.float32)


def test_pixel_decoder_without_norm_has_biases() -> None:
    decoder = build(norm="")
    assert decoder.adapter_1.bias is not None
    assert build().adapter_1.bias is None
    assert [tuple(x.shape[-2:]) for x in decoder(features())[2]] == [(2, 2), (4, 4), (8, 8)]


def test_pixel_decoder_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"multiple of 32, got 40"):
        build(conv_dim=40)


def test_pixel_decoder_two_features_are_refused() -> None:
    few = {name: _SHAPES[name] for name in ("res4", "res5")}
    with pytest.raises(ValueError, match=r"at least three backbone features"):
        MSDeformAttnPixelDecoder(
            few,
            conv_dim=32,
            mask_dim=16,
            norm="GN",
            num_heads=8,
            enc_layers=1,
            enc_hidden_dim=32,
            enc_points=4,
        )
