"""Cut a stream of frames into clips for the network. Letters: T frames, H W frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from amodal2.utils.frame_source import Frame
from amodal2.utils.resize import resize_frame, shortest_edge_size


class ClipBuffer:
    """Collects frames until a clip is full; each is resized on arrival."""

    def __init__(self, clip_len: int, *, short_edge: int = 0, longest_edge: int = 0) -> None:
        """Begin with no frame.

        Args:
            clip_len (int): frames per clip.
            short_edge (int): shorter edge after resizing in pixels, 0 for the original size.
            longest_edge (int): upper limit of the longer edge in pixels, 0 for none.

        Raises:
            ValueError: if ``clip_len`` is not positive.
        """
        if clip_len < 1:
            raise ValueError(f"ClipBuffer: expected clip_len of at least 1, got {clip_len}")
        self._clip_len = clip_len
        self._edges = (short_edge, longest_edge)
        self._frames: list[Frame] = []

    def push(self, frame: Frame) -> Tensor | None:
        """Take the next frame.

        Args:
            frame (ndarray[H, W, 3]): RGB uint8; may be changed afterwards.

        Returns:
            Tensor[T, 3, H', W'] | None: uint8 RGB, the clip that is full now.
        """
        size = shortest_edge_size(frame.shape[0], frame.shape[1], *self._edges)
        resized = resize_frame(frame, size)
        self._frames.append(resized.copy() if resized is frame else resized)
        return self.flush() if len(self._frames) == self._clip_len else None

    def flush(self) -> Tensor | None:
        """Return the frames that wait, as a shorter clip.

        Returns:
            Tensor[T, 3, H', W'] | None: uint8 RGB; None if no frame waits.
        """
        if not self._frames:
            return None
        clip = frames_to_tensor(self._frames)
        self._frames = []
        return clip

    def waiting(self) -> Tensor | None:
        """Return copies of the frames that wait.

        Returns:
            Tensor[T, H', W', 3] | None: uint8 RGB; None if no frame waits.
        """
        return torch.from_numpy(np.stack(self._frames)) if self._frames else None

    def restore(self, frames: Tensor | None) -> None:
        """Let other frames wait.

        Args:
            frames (Tensor[T, H', W', 3] | None): what :meth:`waiting` returned.
        """
        self._frames = [] if frames is None else list(frames.cpu().numpy().copy())


def frames_to_tensor(frames: Sequence[Frame]) -> Tensor:
    """Stack frames for the network.

    Args:
        frames (Sequence[ndarray[H, W, 3]]): T frames, uint8.

    Returns:
        Tensor[T, 3, H, W]: uint8, contiguous, a copy.
    """
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()
