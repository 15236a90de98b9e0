"""Pictures in a row."""

from __future__ import annotations

import numpy as np
import pytest

from amodal2.visualization.panels import panel_width, side_by_side


def test_side_by_side_without_titles_copies_the_frames():
    frames = [np.full((30, 40, 3), value, np.uint8) for value in (50, 200)]
    panel = side_by_side(frames, ["", ""])
    assert panel.shape == (30, panel_width(40, 2), 3)
    np.testing.assert_array_equal(panel[:, :40], frames[0])
    np.testing.assert_array_equal(panel[:, -40:], frames[1])


def test_side_by_side_title_leaves_the_frames_unchanged():
    frames = [np.full((60, 200, 3), 50, np.uint8)]
    panel = side_by_side(frames, ["input"])
    assert (panel != 50).any()
    assert (frames[0] == 50).all()


@pytest.mark.parametrize("titles", [["a", "b"], ["a"]])
def test_side_by_side_mismatch_is_refused(titles):
    frames = [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5 - len(titles) % 2, 3), np.uint8)]
    with pytest.raises(ValueError, match="one size and a title each"):
        side_by_side(frames, titles)
