"""Toy videos of moving rectangles for the tests of completers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from amodal2.structures.rle import decode_rle, encode_mask
from amodal2.structures.track import Track
from amodal2.utils.frame_source import FrameSource
from amodal2.utils.optical_flow import OpticalFlow


class ArraySource(FrameSource):
    """Frames from an array; counts how many are alive at once."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames
        self.name = "array"
        self.height, self.width = frames.shape[1:3]
        self.fps, self.length = 25.0, len(frames)
        self.time_base, self.pixel_aspect = Fraction(1, 25), Fraction(1)
        self.passes = 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        self.passes += 1
        for t, frame in enumerate(self.frames):
            yield frame.copy(), t / 25

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return self.frames[list(indices)]

    def close(self) -> None:
        """Nothing to close."""


class KnownFlow(OpticalFlow):
    """The flow of the whole picture by a constant vector per frame."""

    def __init__(self, motion: tuple[float, float]) -> None:
        self.motion = motion
        self.calls: list[tuple[int, int]] = []

    def __call__(self, first: np.ndarray, second: np.ndarray, index: int, step: int) -> np.ndarray:
        self.calls.append((index, step))
        return np.broadcast_to(
            np.float32(self.motion) * np.float32(step), (*first.shape[:2], 2)
        ).copy()


def rectangle(size: tuple[int, int], top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[max(top, 0) : top + height, max(left, 0) : left + width] = True
    return mask


def make_track(number: int, masks: np.ndarray) -> Track:
    tube = [encode_mask(mask) if mask.any() else None for mask in masks]
    return Track(number, 1, 1.0, tube)


def decode_tube(tube: list, size: tuple[int, int]) -> np.ndarray:
    return np.stack([np.zeros(size, bool) if rle is None else decode_rle(rle) for rle in tube])


def hidden_block(length: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return amodal and visible masks of a still block that a bar passes, and the bar's masks."""
    size = (24, 32)
    block = np.stack([rectangle(size, 8, 10, 8, 8)] * length)
    bar = np.stack([rectangle(size, 0, 4 * t - 4, 24, 5) for t in range(length)])
    return block, block & ~bar, bar
