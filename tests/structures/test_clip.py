"""The output of a model for one clip."""

from __future__ import annotations

import pytest
import torch

from amodal2.structures.clip import ClipOutput, resample_logits


def test_clip_output_counts_slots_and_frames():
    clip = ClipOutput(torch.zeros(5, 3, 8, 10), None, (32, 40), (30, 37))
    assert (clip.num_slots, clip.num_frames) == (5, 3)


@pytest.mark.parametrize(
    ("visible", "amodal", "padded", "image", "message"),
    [
        ((3, 8, 10), None, (32, 40), (32, 40), r"visible_logits \[N, T, h, w\]"),
        (None, (3, 8, 10), (32, 40), (32, 40), r"amodal_logits \[N, T, h, w\]"),
        (None, None, (32, 40), (32, 40), "at least one kind of mask, got none"),
        ((5, 3, 8, 10), (5, 2, 8, 10), (32, 40), (32, 40), "as the visible ones"),
        ((5, 3, 8, 10), None, (32, 40), (33, 40), "image_size within"),
        ((5, 3, 8, 10), None, (32, 40), (0, 40), "image_size within"),
    ],
    ids=["rank", "amodal-rank", "no-kind", "shape", "too-large", "empty"],
)
def test_clip_output_contradiction_is_refused(visible, amodal, padded, image, message):
    logits = [None if shape is None else torch.zeros(shape) for shape in (visible, amodal)]
    with pytest.raises(ValueError, match=message):
        ClipOutput(*logits, padded, image)


def test_resample_logits_cuts_padding_before_the_second_step():
    logits = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]]]])
    logits[..., 1, :] = 50.0  # lower half: padding
    result = resample_logits(logits, (8, 8), (2, 8), (4, 6))
    assert result.shape == (1, 1, 4, 6)
    assert (result == 1.0).all()
