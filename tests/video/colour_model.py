"""A model for tests: each slot is a colour; hidden parts are the rest of the widest box so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from amodal2.structures.clip import ClipOutput
from tests.utils.sample_videos import BLUE, GREEN, RED

CATEGORY_NAMES = {10: "red", 20: "green", 30: "blue"}


@dataclass
class ColourState:
    """What the model carries: the frames it saw, as numbers and where they are held back."""

    clips: list[int] = field(default_factory=list)
    held: list[Tensor] = field(default_factory=list)


class ColourModel:
    """Slots are red, green and blue things; the padding is a multiple of 8 pixels."""

    def __init__(
        self, clip_len: int = 3, stride: int = 1, amodal: bool = True, visible: bool = True
    ) -> None:
        self.clip_len = clip_len
        self._stride = stride
        self._amodal = amodal
        self._visible = visible
        self.seen_sizes: set[tuple[int, ...]] = set()

    def start(self) -> ColourState:
        """Return the first state."""
        return ColourState()

    def forward_clip(self, frames: Tensor, state: ColourState) -> tuple[ClipOutput, ColourState]:
        """Find the pixels close to each colour; the amodal mask is 2 pixels wider."""
        assert frames.dtype == torch.uint8
        assert len(frames) <= self.clip_len
        self.seen_sizes.add(tuple(frames.shape[1:]))
        height, width = frames.shape[-2:]
        padded = (-(-height // 8) * 8, -(-width // 8) * 8)
        colors = torch.tensor([RED, GREEN, BLUE], dtype=torch.float32)
        distance = (frames.float()[None] - colors[:, None, :, None, None]).abs().amax(2)
        logits = (60 - distance) / 10
        logits = torch.nn.functional.pad(
            logits, (0, padded[1] - width, 0, padded[0] - height), value=-9.0
        )
        wide = torch.nn.functional.max_pool2d(logits, 5, 1, 2)
        visible, amodal = (x[..., :: self._stride, :: self._stride] for x in (logits, wide))
        clip = ClipOutput(
            visible if self._visible else None,
            amodal if self._amodal else None,
            padded,
            (height, width),
        )
        return clip, ColourState([*state.clips, len(frames)])

    def finish_clips(self, state: ColourState) -> Iterator[ClipOutput]:
        """Nothing was held back."""
        return iter(())

    def class_scores(self, state: ColourState) -> Tensor:
        """Each slot is sure of its own class."""
        assert state.clips
        return torch.eye(3) * 0.9 + 0.02


class OfflineColourModel(ColourModel):
    """Knows its masks after the last clip only."""

    def forward_clip(self, frames: Tensor, state: ColourState) -> tuple[None, ColourState]:
        """Keep the frames."""
        return None, ColourState([*state.clips, len(frames)], [*state.held, frames])

    def finish_clips(self, state: ColourState) -> Iterator[ClipOutput]:
        """Find the pixels of all clips."""
        while state.held:
            output, _ = super().forward_clip(state.held.pop(0), ColourState())
            yield output
