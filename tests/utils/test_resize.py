"""Size of network inputs."""

from __future__ import annotations

import numpy as np
import pytest

from amodal2.utils.resize import resize_frame, shortest_edge_size


@pytest.mark.parametrize(
    ("args", "size"),
    [
        ((480, 854, 0, 100), (480, 854)),
        ((480, 854, 240, 0), (240, 427)),
        ((480, 854, 240, 400), (225, 400)),
        ((854, 480, 240, 0), (427, 240)),
        ((3, 900, 1, 30), (1, 30)),
    ],
)
def test_shortest_edge_size_known_cases(args, size):
    assert shortest_edge_size(*args) == size


def test_resize_frame_same_size_is_the_frame_itself():
    frame = np.zeros((4, 5, 3), np.uint8)
    assert resize_frame(frame, (4, 5)) is frame


def test_resize_frame_constant_stays_constant():
    frame = np.full((40, 30, 3), 77, np.uint8)
    resized = resize_frame(frame[:, ::-1], (13, 9))
    assert resized.shape == (13, 9, 3)
    assert (resized == 77).all()
