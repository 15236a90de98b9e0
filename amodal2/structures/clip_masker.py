"""From the logits of a clip to the compressed masks of the slots that are wanted.

Letters: N slots, T frames of the clip, (h, w) logit size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal2.structures.box_resampler import BoxResampler
from amodal2.structures.clip import ClipOutput
from amodal2.structures.mask_file import StoredMask
from amodal2.structures.rle_crop import Crop, encode_crop
from amodal2.structures.slot_lives import SlotLives


class ClipMasker:
    """Thresholds logits at output size, and keeps the account of each slot's life.

    Masks are thresholded at logit 0 at output size; their mean probability is taken at the size of
    the network input without its padding, over the positive pixels (VITA's rule). The logits may
    lie on any device, in any dtype and with any strides: they become contiguous float32 in host
    memory first.
    """

    def __init__(
        self, output_size: tuple[int, int], lives: SlotLives, *, union_visible: bool = False
    ) -> None:
        """Store the settings.

        Args:
            output_size (tuple[int, int]): height and width of the masks in pixels.
            lives (SlotLives): where births, deaths and sums are kept.
            union_visible (bool): add the visible mask to the amodal mask of the same frame.
        """
        self.output_size = output_size
        self._lives = lives
        self._union_visible = union_visible
        self._geometry: tuple[object, BoxResampler, BoxResampler] | None = None

    def masks(
        self, clip: ClipOutput, start: int, slots: Sequence[int] | None = None
    ) -> list[StoredMask]:
        """Encode the masks of a clip.

        Args:
            clip (ClipOutput): logits of N slots.
            start (int): number of its first frame in the video.
            slots (Sequence[int] | None): slots that are wanted; None takes all.

        Returns:
            list[StoredMask]: the non-empty ones, frame by frame.
        """
        wanted = range(clip.num_slots) if slots is None else slots
        resamplers = self._resamplers_of(clip)
        visible = _Logits.of(clip.visible_logits, slots)
        amodal = _Logits.of(clip.amodal_logits, slots)
        stored: list[StoredMask] = []
        for frame in range(clip.num_frames):
            for row, slot in enumerate(wanted):
                before = len(stored)
                for kind, mask in self._masks(resamplers, visible, amodal, slot, row, frame):
                    counts = encode_crop(mask, self.output_size)
                    if counts is not None:
                        stored.append(StoredMask(start + frame, slot, kind, counts))
                self._lives.end_frame(slot, start + frame, len(stored) > before)
        return stored

    def pass_over(self, clip: ClipOutput, start: int, slots: Sequence[int]) -> None:
        """Look at slots whose masks are not wanted only to know whether they are gone.

        Nothing is resampled: a slot counts as shown in a frame where the valid part of its logits
        has a positive one. A slot without a track is left alone.

        Args:
            clip (ClipOutput): logits of N slots.
            start (int): number of its first frame in the video.
            slots (Sequence[int]): the slots.
        """
        alive = [slot for slot in slots if self._lives.first[slot] >= 0]
        if not alive:
            return
        visible, amodal = (
            _filled(logits, alive, clip) for logits in (clip.visible_logits, clip.amodal_logits)
        )
        for row, slot in enumerate(alive):
            shown = visible[row] | (amodal[row] & self._lives.seen[slot])
            for frame in range(clip.num_frames):
                if self._lives.first[slot] >= 0:
                    self._lives.end_frame(slot, start + frame, bool(shown[frame]))

    def _masks(
        self,
        resamplers: tuple[BoxResampler, BoxResampler],
        visible: _Logits | None,
        amodal: _Logits | None,
        slot: int,
        row: int,
        frame: int,
    ) -> Iterator[tuple[int, Crop]]:
        """Yield (kind, mask) of one slot in one frame and add them to the sums."""
        resampler, measure = resamplers
        box = None if visible is None else visible.box(row, frame)
        area = None if visible is None else 0
        if visible is not None and box is not None:
            logits = visible.values[row, frame]
            values, x, y = resampler.resample(logits, box)
            mask = values > 0
            area = int(np.count_nonzero(mask))
            self._lives.measure("visible", slot, measure.resample(logits, box)[0])
            yield 0, Crop(mask, x, y)
        if not self._lives.see(slot, area) or amodal is None:
            return
        logits = amodal.values[row, frame]
        amodal_box = amodal.box(row, frame)
        if amodal_box is not None:
            self._lives.measure("amodal", slot, measure.resample(logits, amodal_box)[0])
        added = visible if self._union_visible else None
        if added is not None:
            amodal_box = _union(box, amodal_box)
        if amodal_box is not None:
            values, x, y = resampler.resample(logits, amodal_box)
            mask = values > 0
            if added is not None:
                mask |= resampler.resample(added.values[row, frame], amodal_box)[0] > 0
            yield 1, Crop(mask, x, y)

    def _resamplers_of(self, clip: ClipOutput) -> tuple[BoxResampler, BoxResampler]:
        """Return the resamplers to the output size and to the unpadded network input."""
        key = (clip.shape[-2:], clip.padded_size, clip.image_size)
        if self._geometry is None or self._geometry[0] != key:
            output = BoxResampler.of_clip(clip, self.output_size)
            same = tuple(clip.image_size) == self.output_size
            measure = output if same else BoxResampler.of_clip(clip, clip.image_size)
            self._geometry = (key, output, measure)
        return self._geometry[1:]


class _Logits:
    """Logits of a clip in host memory, and where each mask's positive ones lie."""

    def __init__(self, logits: Tensor) -> None:
        positive = logits > 0
        self._rows = positive.any(dim=3).cpu().numpy()  # [N, T, h]
        self._columns = positive.any(dim=2).cpu().numpy()  # [N, T, w]
        self._filled: NDArray[np.bool_] = np.asarray(self._rows.any(axis=2))
        # Contiguous, since BLAS may round differently where strides differ.
        self.values: NDArray[np.float32] = logits.float().cpu().contiguous().numpy()

    @classmethod
    def of(cls, logits: Tensor | None, slots: Sequence[int] | None) -> _Logits | None:
        """Take the wanted slots; only they leave the device."""
        if logits is None:
            return None
        return cls(logits.detach() if slots is None else _rows_of(logits, slots))

    def box(self, row: int, frame: int) -> tuple[int, int, int, int] | None:
        """Return first and last row, first and last column of the positive logits."""
        if not self._filled[row, frame]:
            return None
        rows = np.flatnonzero(self._rows[row, frame])
        columns = np.flatnonzero(self._columns[row, frame])
        return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _rows_of(logits: Tensor, slots: Sequence[int]) -> Tensor:
    return logits.detach()[torch.as_tensor(list(slots), dtype=torch.long, device=logits.device)]


def _filled(logits: Tensor | None, slots: Sequence[int], clip: ClipOutput) -> NDArray[np.bool_]:
    """Tell for slots and frames [n, T] whether logits outside the padding are positive."""
    if logits is None:
        return np.zeros((len(slots), clip.num_frames), bool)
    height, width = (
        -(-size * image // padded)
        for size, image, padded in zip(
            clip.shape[-2:], clip.image_size, clip.padded_size, strict=True
        )
    )
    valid = _rows_of(logits, slots)[..., :height, :width]
    return np.asarray((valid > 0).flatten(2).any(dim=2).cpu().numpy())


def _union(
    a: tuple[int, int, int, int] | None, b: tuple[int, int, int, int] | None
) -> tuple[int, int, int, int] | None:
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3])
