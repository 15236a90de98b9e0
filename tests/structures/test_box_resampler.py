"""Resampling of a box equals that part of the whole resampled frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal2.structures.box_resampler import BoxResampler
from amodal2.structures.clip import resample_logits

GEOMETRIES = [
    ((8, 10), (32, 40), (32, 40), (32, 40)),
    ((8, 12), (32, 48), (27, 41), (59, 83)),
    ((16, 24), (64, 96), (61, 90), (20, 31)),
    ((5, 5), (3, 3), (2, 3), (7, 7)),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("box", [(0, 0, 0, 0), (2, 4, 1, 3), (0, 4, 0, 4)])
def test_box_resampler_box_equals_part_of_whole(geometry, box):
    logits = torch.randn(1, 1, *geometry[0], generator=torch.Generator().manual_seed(0))
    whole = resample_logits(logits, *geometry[1:])[0, 0].numpy()
    part, x, y = BoxResampler(*geometry).resample(logits[0, 0].numpy(), box)
    height, width = part.shape
    np.testing.assert_allclose(part, whole[y : y + height, x : x + width], atol=2e-6)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_box_resampler_outside_of_the_box_nothing_is_positive(geometry):
    logits = torch.full((1, 1, *geometry[0]), -1.0)
    logits[..., 2:4, 1:3] = 9.0
    positive = resample_logits(logits, *geometry[1:])[0, 0].numpy() > 0
    part, x, y = BoxResampler(*geometry).resample(logits[0, 0].numpy(), (2, 3, 1, 2))
    height, width = part.shape
    np.testing.assert_array_equal(part > 0, positive[y : y + height, x : x + width])
    positive[y : y + height, x : x + width] = False
    assert not positive.any()


def test_box_resampler_box_in_the_padding_is_empty():
    part, _, _ = BoxResampler((8, 8), (32, 32), (16, 16), (16, 16)).resample(
        np.ones((8, 8), np.float32), (6, 7, 6, 7)
    )
    assert part.size == 0
