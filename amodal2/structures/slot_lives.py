"""Which frames of a slot belong to one object: births, deaths and re-appearances.

1. Birth: a track begins in the first frame in which its slot has a visible mask (any mask, where
   visible ones are not predicted). Amodal masks count from the first frame on in which the visible
   mask has ``min_visible_px`` pixels (A2VIS, Sec. 3.1).
2. A hidden object, without a visible mask but with an amodal one, stays alive however long.
3. Death: a track is gone in a frame without either mask. After more than ``max_gone_frames`` such
   frames in a row it has ended; None, the default, never ends it, so that a slot is one track
   through the whole video.
4. Re-appearance: an object that is seen again before its track has ended goes on with it. After
   that, the slot's next visible mask is the birth of another track with sums of its own.

Everything is decided frame by frame, so it does not depend on how a video is cut into clips. A slot
that was not looked at (live streams look at the best slots only) is not born in that frame.
Letters: N slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

Kind = Literal["visible", "amodal"]
KINDS: tuple[Kind, Kind] = ("visible", "amodal")
"""Kinds of masks; their positions are the numbers under which masks are stored."""

_ARRAYS = ("probability", "area", "seen", "first", "gone")


@dataclass(frozen=True)
class Life:
    """One track of a slot, without its masks.

    Attributes:
        slot (int): the slot.
        first (int): frame of its birth, -1 before it.
        stop (int | None): one past the last frame with a mask; None while it lives.
        mean (tuple[float, float]): mean probability inside its visible and its amodal masks.
        area (tuple[int, int]): pixels these means were taken over.
    """

    slot: int
    first: int
    stop: int | None
    mean: tuple[float, float]
    area: tuple[int, int]


class SlotLives:
    """Running sums and the present track of every slot; the size does not grow with the video.

    Attributes:
        first (ndarray[N]): frame of birth of the present track, -1 before it.
        seen (ndarray[N]): whether amodal masks count already.
        gone (ndarray[N]): frames without a mask since the last one with a mask.
    """

    def __init__(
        self, num_slots: int, *, min_visible_px: int = 1, max_gone_frames: int | None = None
    ) -> None:
        """Begin without any track.

        Args:
            num_slots (int): N.
            min_visible_px (int): visible pixels from which on a slot counts as seen.
            max_gone_frames (int | None): frames in a row without a mask that a track survives.

        Raises:
            ValueError: if ``max_gone_frames`` is negative.
        """
        if max_gone_frames is not None and max_gone_frames < 0:
            raise ValueError(
                f"SlotLives: expected max_gone_frames of at least 0 or None, got {max_gone_frames}"
            )
        self.min_visible_px = min_visible_px
        self.max_gone_frames = max_gone_frames
        self.probability = np.zeros((len(KINDS), num_slots))
        self.area = np.zeros((len(KINDS), num_slots), np.int64)
        self.seen = np.zeros(num_slots, bool)
        self.first = np.full(num_slots, -1, np.int64)
        self.gone = np.zeros(num_slots, np.int64)
        self._ended: list[Life] = []

    def measure(self, kind: Kind, slot: int, logits: NDArray[np.float32]) -> None:
        """Add the probabilities of a mask's positive pixels to the sums of its slot.

        Args:
            kind (str): "visible" or "amodal".
            slot (int): the slot.
            logits (ndarray): logits around the mask at the size of the network input.
        """
        inside = logits[logits > 0]
        place = KINDS.index(kind), slot
        self.probability[place] += np.sum(1 / (1 + np.exp(-inside)), dtype=np.float64)
        self.area[place] += inside.size

    def see(self, slot: int, visible_px: int | None) -> bool:
        """Note the size of a visible mask.

        Args:
            slot (int): the slot.
            visible_px (int | None): its pixels in this frame; None if they are not predicted.

        Returns:
            bool: amodal masks count in this frame.
        """
        if visible_px is None or visible_px >= self.min_visible_px:
            self.seen[slot] = True
        return bool(self.seen[slot])

    def end_frame(self, slot: int, frame: int, shown: bool) -> None:
        """Apply the rules of birth and death.

        Args:
            slot (int): the slot.
            frame (int): frame of the video.
            shown (bool): the slot has a mask of either kind in it.
        """
        if shown:
            if self.first[slot] < 0:
                self.first[slot] = frame
            self.gone[slot] = 0
        elif self.first[slot] >= 0:
            self.gone[slot] += 1
            if self.max_gone_frames is not None and self.gone[slot] > self.max_gone_frames:
                self._end(slot, frame + 1 - int(self.gone[slot]))

    def running(self) -> list[Life]:
        """Return the present track of every slot, those not born yet included."""
        return [self._life(slot, None) for slot in range(len(self.first))]

    def pop_ended(self) -> list[Life]:
        """Return the tracks that ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all arrays as tensors, to be taken after :meth:`pop_ended`."""
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in _ARRAYS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Args:
            state (dict): from :meth:`state_dict` of an object with as many slots.
        """
        for name in _ARRAYS:
            getattr(self, name)[...] = state[name].cpu().numpy()

    def _end(self, slot: int, stop: int) -> None:
        self._ended.append(self._life(slot, stop))
        self.probability[:, slot] = 0
        self.area[:, slot] = 0
        self.seen[slot], self.first[slot], self.gone[slot] = False, -1, 0

    def _life(self, slot: int, stop: int | None) -> Life:
        visible, amodal = (self.probability[:, slot] / (self.area[:, slot] + 1e-6)).tolist()
        seen, whole = self.area[:, slot].tolist()
        return Life(slot, int(self.first[slot]), stop, (visible, amodal), (seen, whole))
