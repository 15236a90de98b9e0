"""Frames of a test video that are decoded only when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from amodal2.data.transforms import ClipGeometry, shortest_edge_size
from amodal2.utils.frames import open_frames


class LazyFrames:
    """The frames of one video, resized for the network, decoded clip by clip.

    Objects of this class can be pickled; each process opens the video for itself.
    """

    def __init__(
        self,
        source: str | Path | list[str],
        length: int,
        *,
        short_edge: int = 0,
        longest_edge: int = 0,
    ) -> None:
        """Store where the frames are; nothing is opened yet.

        Args:
            source: a video file, or the image files of the frames in order.
            length: number of frames.
            short_edge: shorter edge after resizing in pixels, 0 for the original size.
            longest_edge: upper limit of the longer edge in pixels, 0 for none.
        """
        self.source = source
        self.length = length
        self.short_edge = short_edge
        self.longest_edge = longest_edge
        self._opened: Any = None

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.length

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the open file."""
        return {**self.__dict__, "_opened": None}

    def clip(self, start: int, stop: int) -> torch.Tensor:
        """Decode the frames [start, stop).

        Args:
            start: first frame, 0-based.
            stop: one past the last frame, at most the length.

        Returns:
            Tensor[T, 3, H, W]: uint8 RGB.

        Raises:
            IndexError: if the interval is empty or leaves the video.
        """
        if not 0 <= start < stop <= self.length:
            raise IndexError(
                f"LazyFrames.clip: expected 0 <= start < stop <= {self.length}, "
                f"got [{start}, {stop})"
            )
        if self._opened is None:
            self._opened = open_frames(self.source)
        frames = self._opened.read(range(start, stop))
        height, width = frames.shape[1:3]
        size = shortest_edge_size(height, width, self.short_edge, self.longest_edge)
        return frames_to_tensor(ClipGeometry.resize_to(height, width, size).apply_frames(frames))

    def close(self) -> None:
        """Close the video; a later :meth:`clip` opens it again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def frames_to_tensor(frames: np.ndarray) -> torch.Tensor:
    """Turn frames [T, H, W, 3] into a contiguous tensor.

    Args:
        frames (ndarray[T, H, W, 3]): uint8.

    Returns:
        Tensor[T, 3, H, W]: uint8, a copy.
    """
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
