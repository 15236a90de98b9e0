"""The decoder over all frames of a clip."""

import torch

from amodal2.layers import sine_position_3d
from amodal2.modeling.mask_classification.video_decoder import VideoMaskedTransformerDecoder

_SIZES = ((2, 3), (4, 6), (8, 12))


def build(layers: int = 4) -> VideoMaskedTransformerDecoder:
    return VideoMaskedTransformerDecoder(
        in_channels=16,
        num_classes=3,
        hidden_dim=16,
        num_queries=5,
        num_heads=2,
        hidden_ffn=16,
        num_layers=layers,
        mask_dim=8,
    ).eval()


def make_input(batch: int = 2, frames: int = 3) -> tuple[list[torch.Tensor], torch.Tensor]:
    levels = [torch.randn(batch, frames, 16, *size) for size in _SIZES]
    return levels, torch.randn(batch, frames, 8, 16, 24)


def test_decoder_keys_are_frames_in_order_with_the_3d_code() -> None:
    decoder, (levels, features) = build(), make_input()
    keys = decoder.prepare(levels, features)
    for level, (h, w) in enumerate(_SIZES):
        assert keys.memories[level].shape == (2, 3 * h * w, 16)
        expected = levels[level][1, 2, :, 1, 2] + decoder.level_embed.weight[level]
        place = 2 * h * w + 1 * w + 2
        torch.testing.assert_close(keys.memories[level][1, place], expected)
        code = sine_position_3d(3, h, w, 16, features)
        torch.testing.assert_close(keys.codes[level][0, place], code[2, :, 1, 2])


def test_decoder_parts_of_a_clip_join_to_the_whole() -> None:
    decoder, (levels, features) = build(), make_input(1, 5)
    whole = decoder.prepare(levels, features)
    parts = [
        decoder.frame_keys([x[:, a:b] for x in levels], features[:, a:b])
        for a, b in ((0, 2), (2, 4), (4, 5))
    ]
    joined = decoder.join(parts)
    for kind in ("memories", "codes", "small_features"):
        for ours, theirs in zip(getattr(joined, kind), getattr(whole, kind), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_decoder_attention_mask_is_that_of_each_frame() -> None:
    decoder, (levels, features) = build(), make_input()
    keys = decoder.prepare(levels, features)
    normed = torch.randn(2, 5, 16)
    allow = decoder._attention_mask(normed, keys.small_features[0]).view(2, 5, 3, 2, 3)
    logits = torch.einsum("bnc,btchw->bnthw", decoder.mask_embed(normed), features)
    for frame in range(3):
        small = torch.nn.functional.interpolate(
            logits[:, :, frame], (2, 3), mode="bilinear", align_corners=False
        )
        certain = small.abs() > 1e-4
        assert torch.equal(allow[:, :, frame][certain], (small >= 0)[certain])


def test_decoder_predicts_the_steps_that_are_asked_for() -> None:
    decoder, (levels, features) = build(), make_input()
    with torch.no_grad():
        every = decoder.train()(levels, features).predictions
        decoder.eval()
        for last in (1, 3, 5, 9):
            found = decoder(levels, features, last=last).predictions
            assert len(found) == min(last, 5)
            for ours, theirs in zip(found, every[-last:], strict=True):
                torch.testing.assert_close(ours.mask_logits, theirs.mask_logits)
        assert decoder(levels, features, predict=False).predictions == []
    assert len(every) == 5
    assert every[0].mask_logits.shape == (2, 5, 3, 16, 24)
    assert every[0].class_logits.shape == (2, 5, 4)
