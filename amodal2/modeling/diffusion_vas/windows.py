"""Videos of any length with a model of a fixed number of frames (own design; official: none).

Letters: K samples, T frames of the video, t frames of a window.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def window_starts(length: int, window: int, overlap: int) -> list[int]:
    """Return the first frames of the windows of a video; the last one ends with it.

    Args:
        length: T, at least 1.
        window: t.
        overlap: frames that neighbouring windows share, at least; the last two may share more.

    Returns:
        list[int]: one start if the video is not longer than the window.

    Raises:
        ValueError: if the overlap is not below the window.
    """
    if not 0 <= overlap < window:
        raise ValueError(
            f"window_starts: expected an overlap from 0 to below the window of {window} frames, "
            f"got {overlap}"
        )
    last = max(length - window, 0)
    return [*range(0, last, window - overlap), last]


def run_windows(
    run: Callable[[int, int], Tensor], length: int, window: int, overlap: int
) -> Tensor:
    """Run a model window by window and average what it says where windows overlap.

    Args:
        run: takes first frame and one past the last one; returns Tensor[K, t, ...] of these frames.
        length: T.
        window: t; a shorter video is one window.
        overlap: see :func:`window_starts`.

    Returns:
        Tensor[K, T, ...]: float32 on the CPU; a single window is returned as it is.
    """
    starts = window_starts(length, window, overlap)
    if len(starts) == 1:
        return run(0, length).float().cpu()
    total = counts = None
    for start in starts:
        found = run(start, start + window).float().cpu()
        if total is None or counts is None:
            total = found.new_zeros(found.shape[0], length, *found.shape[2:])
            counts = torch.zeros(length)
        total[:, start : start + window] += found
        counts[start : start + window] += 1
    assert total is not None, "there is at least one window"
    assert counts is not None, "there is at least one window"
    return total / counts.reshape(1, length, *[1] * (total.dim() - 2))


def pad_frames(video: Tensor, window: int) -> Tensor:
    """Repeat the last frame until a video fills a window.

    Args:
        video (Tensor[T, ...]): at least one frame.
        window: t.

    Returns:
        Tensor[max(T, t), ...]: the same tensor if it is long enough.
    """
    missing = window - len(video)
    if missing <= 0:
        return video
    return torch.cat([video, video[-1:].expand(missing, *video.shape[1:])])
