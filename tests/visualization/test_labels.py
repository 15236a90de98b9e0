"""Name plates."""

from __future__ import annotations

import numpy as np
import pytest

from amodal2.visualization.labels import Box, LabelPlacer

COLOR = (250, 10, 10)


def painted(frame: np.ndarray) -> Box:
    rows, columns = np.nonzero((frame != 0).any(axis=2))
    return Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def draw(*anchors: Box, size: tuple[int, int] = (100, 200)) -> np.ndarray:
    frame = np.zeros((*size, 3), np.uint8)
    placer = LabelPlacer(frame, 12)
    for anchor in anchors:
        placer.draw("1 fish", COLOR, anchor)
    return frame


def test_draw_room_above_lies_above_the_object():
    box = painted(draw(Box(60, 50, 120, 90)))
    assert box.bottom <= 50
    assert abs(box.left - 60) <= 1


@pytest.mark.parametrize("anchor", [Box(0, 0, 20, 99), Box(190, 2, 200, 10), Box(0, 95, 5, 100)])
def test_draw_object_at_the_edge_keeps_the_plate_whole(anchor):
    reference = painted(draw(Box(60, 50, 120, 90)))
    box = painted(draw(anchor))
    assert (box.right - box.left, box.bottom - box.top) == (
        reference.right - reference.left,
        reference.bottom - reference.top,
    )


def test_draw_same_place_twice_does_not_overlap():
    anchor = Box(60, 50, 120, 90)
    once, twice = draw(anchor), draw(anchor, anchor)
    count = [int((frame != 0).any(axis=2).sum()) for frame in (once, twice)]
    assert count[1] == pytest.approx(2 * count[0], rel=0.05)


def test_draw_tiny_frame_is_left_alone():
    assert not draw(Box(0, 0, 4, 4), size=(8, 8)).any()
