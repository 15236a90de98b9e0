"""The interface of everything that yields the frames of a video.

Letters: T frames, H W image.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from amodal2.utils.closing import Closing

Frame: TypeAlias = NDArray[np.uint8]  # [H, W, 3] RGB


class FrameSource(Closing):
    """The frames of one video, to be read in order or by index.

    Iterating starts at the first frame each time. Use it as a context manager, or call
    :meth:`close`.

    Attributes:
        name (str): where the frames come from, for messages.
        height (int): pixels, after the rotation that the file asks for.
        width (int): pixels, after the rotation that the file asks for.
        fps (float): average frames per second.
        length (int | None): number of frames; for a file what the container claims, None if it
            claims nothing. A cut off file yields fewer.
        time_base (Fraction): seconds per tick; every time stamp is a whole number of ticks.
        pixel_aspect (Fraction): width / height of one pixel.
    """

    name: str
    height: int
    width: int
    fps: float
    length: int | None
    time_base: Fraction
    pixel_aspect: Fraction

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[Frame, float]]:
        """Yield (frame, time stamp in seconds) from the first frame to the last readable one."""

    @abstractmethod
    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Decode the frames at ``indices`` and as few others as possible.

        Args:
            indices (Sequence[int]): frame numbers from 0, in any order, repeats allowed.

        Returns:
            ndarray[T, H, W, 3]: RGB uint8, in the order of ``indices``.

        Raises:
            IndexError: if the video has no such frame.
            VideoError: if a frame cannot be decoded.
        """

    @abstractmethod
    def close(self) -> None:
        """Release open files; the source must not be read afterwards."""
