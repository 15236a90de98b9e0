"""An unnamed temporary file of compressed masks, written clip by clip and read in the same order.

A clip is one block: the number of masks, a table that says whose masks they are, and their
compressed counts one after the other.
"""

from __future__ import annotations

import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

_ENTRY = np.dtype([("frame", "<u4"), ("slot", "<u4"), ("kind", "<u4"), ("bytes", "<u4")])


class StoredMask(NamedTuple):
    """One non-empty mask.

    Attributes:
        frame (int): frame of the video.
        slot (int): whose mask it is.
        kind (int): number of the kind of mask.
        counts (str): compressed COCO counts.
    """

    frame: int
    slot: int
    kind: int
    counts: str


class MaskFile:
    """Masks of one video in the order of their clips. Memory: 16 bytes per clip."""

    def __init__(self, directory: str | Path | None = None) -> None:
        """Open the file.

        Args:
            directory (str | Path | None): where it lies; None leaves it to the system.
        """
        self.length = 0
        self._file = tempfile.TemporaryFile(dir=directory, prefix="amodal2_masks_")
        self._ends = array("q")  # where each clip's block ends in the file
        self._stops = array("q")  # one past each clip's last frame

    def append(self, num_frames: int, masks: Sequence[StoredMask]) -> None:
        """Write the masks of the next clip.

        Args:
            num_frames (int): frames of the clip.
            masks (Sequence[StoredMask]): their masks.
        """
        texts = [mask.counts.encode("ascii") for mask in masks]
        table = np.array(
            [(*mask[:3], len(text)) for mask, text in zip(masks, texts, strict=True)], _ENTRY
        )
        block = np.uint32(len(masks)).tobytes() + table.tobytes() + b"".join(texts)
        start = self._ends[-1] if self._ends else 0
        self._file.seek(start)
        self._file.write(block)
        self._ends.append(start + len(block))
        self.length += num_frames
        self._stops.append(self.length)

    def clips(
        self, slots: Collection[int], kinds: Collection[int], start: int = 0
    ) -> Iterator[tuple[range, list[StoredMask]]]:
        """Read clip by clip; several readers may run at once.

        Args:
            slots (Collection[int]): slots whose masks are wanted.
            kinds (Collection[int]): kinds that are wanted.
            start (int): clips that end before this frame are left out.

        Yields:
            tuple[range, list[StoredMask]]: the frames of the clip and the wanted masks in them.
        """
        slot_list = np.array(sorted(slots), np.uint32)
        kind_list = np.array(sorted(kinds), np.uint32)
        skipped = bisect_right(self._stops, start)
        offset = self._ends[skipped - 1] if skipped else 0
        first = self._stops[skipped - 1] if skipped else 0
        for end, stop in zip(self._ends[skipped:], self._stops[skipped:], strict=True):
            self._file.seek(offset)
            block = self._file.read(end - offset)
            table = np.frombuffer(block, _ENTRY, int.from_bytes(block[:4], "little"), offset=4)
            wanted = np.isin(table["slot"], slot_list) & np.isin(table["kind"], kind_list)
            ends = 4 + table.nbytes + np.cumsum(table["bytes"], dtype=np.int64)
            masks = []
            for i in np.flatnonzero(wanted).tolist():
                frame, slot, kind, size = table[i].tolist()
                text = block[ends[i] - size : ends[i]].decode("ascii")
                masks.append(StoredMask(frame, slot, kind, text))
            yield range(first, stop), masks
            offset, first = end, stop

    def state_dict(self) -> dict[str, Any]:
        """Return the whole content as tensors; it takes as much memory as the file has bytes."""
        self._file.seek(0)
        content = bytearray(self._file.read(self._ends[-1] if self._ends else 0))
        return {
            "content": torch.frombuffer(content, dtype=torch.uint8) if content else None,
            "ends": self._ends.tolist(),
            "stops": self._stops.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the content.

        Args:
            state (dict): from :meth:`state_dict`.
        """
        self._ends, self._stops = array("q", state["ends"]), array("q", state["stops"])
        self.length = self._stops[-1] if self._stops else 0
        self._file.seek(0)
        self._file.truncate()
        if state["content"] is not None:
            self._file.write(state["content"].cpu().numpy().data)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()
