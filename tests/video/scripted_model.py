"""A model for tests whose objects do what a script says, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amodal2.structures.clip import ClipOutput

SIZE = (24, 32)


@dataclass
class Step:
    """How far the script is."""

    frame: int


@dataclass
class ScriptedState:
    """What the model carries."""

    step: Step
    trace: Tensor | None = None
    history: tuple[float, ...] = ()


class ScriptedModel:
    """One slot per line of the script: V visible, H hidden (amodal mask only), ``.`` gone.

    Masks are at the slot's own place; a frame whose first pixel is bright is a little surer.
    """

    def __init__(
        self,
        script: Sequence[str],
        clip_len: int = 3,
        *,
        amodal: bool = True,
        scores: Callable[[int], Tensor] | None = None,
        form: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        self.clip_len = clip_len
        self._script = script
        self._amodal = amodal
        self._scores = scores
        self._form = form

    def start(self) -> ScriptedState:
        """Return the first state."""
        return ScriptedState(Step(0))

    def forward_clip(
        self, frames: Tensor, state: ScriptedState
    ) -> tuple[ClipOutput, ScriptedState]:
        """Draw what the script says."""
        height, width = SIZE[0] // 2, SIZE[1] // 2
        visible = torch.full((len(self._script), len(frames), height, width), -3.0)
        amodal = visible.clone()
        begin = state.step.frame
        surer = frames[:, 0, 0, 0].float() / 255
        for slot, line in enumerate(self._script):
            for place, mark in enumerate(line[begin : begin + len(frames)]):
                top, left = 1 + 3 * (slot % 3), 1 + 4 * (slot // 3)
                value = 1.0 + slot / 7 + surer[place]
                if mark in "VH":
                    amodal[slot, place, top : top + 3, left : left + 4] = value
                if mark == "V":
                    visible[slot, place, top : top + 2, left : left + 3] = value - 0.3
        trace = torch.zeros(3) if state.trace is None else state.trace
        clip = ClipOutput(
            self._form(visible), self._form(amodal) if self._amodal else None, SIZE, SIZE
        )
        carried = ScriptedState(
            Step(begin + len(frames)), trace * 0.9 + surer.mean(), (*state.history, begin / 3)
        )
        return clip, carried

    def finish_clips(self, state: ScriptedState) -> Iterator[ClipOutput]:
        """Nothing was held back."""
        return iter(())

    def class_scores(self, state: ScriptedState) -> Tensor:
        """Give every slot its own class, or what the test says for the frames so far."""
        if self._scores is not None:
            return self._scores(state.step.frame)
        classes = torch.full((len(self._script), 3), 0.05)
        classes[torch.arange(len(self._script)), torch.arange(len(self._script)) % 3] = 0.7
        return classes + 0.01 * state.trace.mean()
