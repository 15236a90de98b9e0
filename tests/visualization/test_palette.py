"""Colours per track id."""

from __future__ import annotations

import numpy as np
import pytest

from amodal2.visualization.palette import (
    PALETTE_SIZE,
    color_of,
    palette,
    srgb_to_oklab,
    text_color,
)


def test_palette_first_colors_are_far_apart():
    lab = srgb_to_oklab(np.array(palette()[:12], float))
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distance[~np.eye(12, dtype=bool)].min() > 0.12


def test_palette_all_colors_differ():
    assert len(set(palette())) == PALETTE_SIZE


def test_color_of_high_id_begins_again():
    assert color_of(1) == color_of(1 + PALETTE_SIZE) == palette()[0]
    assert color_of(2) == palette()[1]


def test_srgb_to_oklab_white_and_black():
    lab = srgb_to_oklab(np.array([[255.0, 255, 255], [0, 0, 0]]))
    np.testing.assert_allclose(lab, [[1, 0, 0], [0, 0, 0]], atol=1e-4)


@pytest.mark.parametrize(
    ("background", "text"), [((255, 255, 0), (0, 0, 0)), ((20, 20, 90), (255, 255, 255))]
)
def test_text_color_contrasts(background, text):
    assert text_color(background) == text
