"""Frames become clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal2.video.clips import ClipBuffer


def test_push_full_clip_is_returned_in_order():
    buffer = ClipBuffer(3)
    frames = [np.full((4, 6, 3), value, np.uint8) for value in range(5)]
    clips = [buffer.push(frame) for frame in frames]
    assert [clip is None for clip in clips] == [True, True, False, True, True]
    assert clips[2].shape == (3, 3, 4, 6)
    assert clips[2].dtype == torch.uint8
    assert clips[2][:, 0, 0, 0].tolist() == [0, 1, 2]
    assert buffer.flush()[:, 0, 0, 0].tolist() == [3, 4]
    assert buffer.flush() is None


def test_push_keeps_the_frame_as_it_was():
    buffer = ClipBuffer(2)
    frame = np.zeros((4, 6, 3), np.uint8)
    buffer.push(frame)
    frame[:] = 9
    assert buffer.flush().max() == 0


def test_push_short_edge_resizes():
    buffer = ClipBuffer(1, short_edge=8, longest_edge=10)
    assert buffer.push(np.zeros((4, 6, 3), np.uint8)).shape == (1, 3, 7, 10)


def test_clip_buffer_length_zero_is_refused():
    with pytest.raises(ValueError, match="clip_len of at least 1, got 0"):
        ClipBuffer(0)
