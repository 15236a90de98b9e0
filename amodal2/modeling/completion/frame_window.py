"""The frames of a video and what is computed from them, a window at a time.

Dimensions: T frames of a window, H W frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from amodal2.modeling.completion.base import DEPTH, FLOW, FRAMES
from amodal2.utils.frame_source import Frame, FrameSource
from amodal2.utils.optical_flow import OpticalFlow

DepthSource = Callable[[Frame, int], np.ndarray]
"""Takes a frame [H, W, 3] and its number and returns its depth [H, W]."""


@dataclass
class FrameWindow:
    """T neighbouring frames; what was not asked for is None.

    Attributes:
        start (int): number of the first frame.
        length (int): T.
        frames (Tensor[T, 3, H, W] | None): uint8 RGB.
        forward (Tensor[T, 2, H, W] | None): float flow to the next frame; 0 in the last one of the
            video.
        backward (Tensor[T, 2, H, W] | None): the same to the frame before.
        depth (Tensor[T, H, W] | None): float.
    """

    start: int
    length: int
    frames: Tensor | None
    forward: Tensor | None
    backward: Tensor | None
    depth: Tensor | None


class WindowReader:
    """Reads a video in order and keeps what the next window needs again."""

    def __init__(
        self,
        source: FrameSource,
        length: int,
        needs: frozenset[str],
        flow: OpticalFlow | None,
        depth: DepthSource | None,
        on_frame: Callable[[], object] | None,
    ) -> None:
        """Start at the first frame.

        Args:
            source: the video.
            length: frames that it must have.
            needs: of ``FRAMES``, ``FLOW`` and ``DEPTH``.
            flow: gives flow.
            depth: gives depth.
            on_frame: called after every frame.
        """
        self._source, self._length, self._needs = source, length, needs
        self._flow, self._depth, self._on_frame = flow, depth, on_frame
        self._iterator = iter(source)
        self._next = 0
        self._frames: dict[int, Frame] = {}
        self._flows: dict[tuple[int, int], Tensor] = {}

    def read(self, start: int, stop: int) -> FrameWindow:
        """Return the frames [start, stop), none of them before those of the last call.

        Args:
            start: first frame.
            stop: one past the last one.

        Raises:
            ValueError: if the video ends before.
        """
        ahead = min(stop + 1, self._length) if FLOW in self._needs else stop
        while self._next < ahead:
            frame = next(self._iterator, None)
            if frame is None:
                raise ValueError(
                    f"complete_video: expected {self._length} frames as there are masks, got "
                    f"{self._next} in {self._source.name}"
                )
            self._frames[self._next] = frame[0]
            self._next += 1
            if self._on_frame is not None:
                self._on_frame()
        for t in [t for t in self._frames if t < start - 1]:
            del self._frames[t]
        for key in [key for key in self._flows if key[0] < start]:
            del self._flows[key]
        frames = range(start, stop)
        images = depths = forward = backward = None
        if FRAMES in self._needs:
            stack = np.stack([self._frames[t] for t in frames])
            images = torch.from_numpy(stack).permute(0, 3, 1, 2)
        if DEPTH in self._needs:
            depths = torch.stack([self._depth_at(t) for t in frames])
        if FLOW in self._needs:
            forward = torch.stack([self._flow_at(t, 1) for t in frames])
            backward = torch.stack([self._flow_at(t, -1) for t in frames])
        return FrameWindow(start, len(frames), images, forward, backward, depths)

    def finish(self) -> None:
        """Check that the video has no more frames than masks.

        Raises:
            ValueError: if it has.
        """
        if next(self._iterator, None) is not None:
            raise ValueError(
                f"complete_video: expected {self._length} frames as there are masks, got more in "
                f"{self._source.name}"
            )

    def _depth_at(self, t: int) -> Tensor:
        assert self._depth is not None, "complete_video has checked that there is depth"
        depth = np.asarray(self._depth(self._frames[t], t), np.float32)
        if depth.shape != self._frames[t].shape[:2]:
            height, width = self._frames[t].shape[:2]
            raise ValueError(
                f"complete_video: expected depth [{height}, {width}] like the frames, got "
                f"{depth.shape} at frame {t}"
            )
        return torch.from_numpy(depth)

    def _flow_at(self, t: int, step: int) -> Tensor:
        if (t, step) not in self._flows:
            assert self._flow is not None, "complete_video has checked that there is flow"
            if 0 <= t + step < self._length:
                field = self._flow(self._frames[t], self._frames[t + step], t, step)
                flow = torch.from_numpy(np.array(field, np.float32)).permute(2, 0, 1)
            else:
                flow = torch.zeros(2, *self._frames[t].shape[:2])
            self._flows[t, step] = flow
        return self._flows[t, step]
