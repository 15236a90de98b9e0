"""Numbers under which tracks are known outside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from amodal2.structures.tube_track import TubeTrack


class TrackIds:
    """Gives each track a number when it is first asked for, from 1, and none twice.

    A track is known by its slot and the frame of its birth.
    """

    def __init__(self) -> None:
        """Begin with no track."""
        self._ids: dict[tuple[int, int], int] = {}
        self._next = 1

    def __len__(self) -> int:
        """Return how many tracks are remembered."""
        return len(self._ids)

    def name(self, tracks: Sequence[TubeTrack]) -> list[TubeTrack]:
        """Return the tracks with their numbers; those without one get the next ones, in order.

        Args:
            tracks (Sequence[TubeTrack]): tracks with any ids.
        """
        named = []
        for track in tracks:
            origin = (track.slot, track.first)
            if origin not in self._ids:
                self._ids[origin] = self._next
                self._next += 1
            named.append(replace(track, id=self._ids[origin]))
        return named

    def keep(self, origins: Collection[tuple[int, int]]) -> None:
        """Forget all other tracks.

        Args:
            origins (Collection[tuple[int, int]]): slot and frame of birth.
        """
        self._ids = {origin: id for origin, id in self._ids.items() if origin in origins}

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers as lists."""
        return {"next": self._next, "ids": [[*origin, id] for origin, id in self._ids.items()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Args:
            state (dict): from :meth:`state_dict`.
        """
        self._next = state["next"]
        self._ids = {(slot, first): id for slot, first, id in state["ids"]}
