"""Mask tubes of all slots of a video, kept compressed in a temporary file.

Class scores, and with them the choice of tracks, exist only after the last clip. Until then every
slot's masks wait in the file; memory holds a few running sums per slot. Letters: N slots, K
classes, T frames, H W frame.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from amodal2.structures.box_resampler import BoxResampler
from amodal2.structures.clip import ClipOutput
from amodal2.structures.frame_object import FrameObject
from amodal2.structures.mask_file import MaskFile, StoredMask
from amodal2.structures.rle import RLE
from amodal2.structures.rle_crop import Crop, encode_crop
from amodal2.structures.track import MaskTube, Track, VideoPrediction

Kind = Literal["visible", "amodal"]
_KINDS: tuple[Kind, Kind] = ("visible", "amodal")


@dataclass(frozen=True)
class TubeTrack:
    """A chosen slot: a track whose masks are still in the spool.

    Attributes:
        id (int): track id, from 1 in the order of falling scores.
        slot (int): the slot that its masks come from.
        category_id (int): category of the track.
        score (float): class score, times the mean probability inside the visible mask (where that
            kind is not predicted, the amodal mask) unless the spool leaves the quality out.
        amodal_score (float | None): the same with the amodal mask; None if that is no other score.
    """

    id: int
    slot: int
    category_id: int
    score: float
    amodal_score: float | None


class _Sums:
    """Running sums of one kind of mask: probability inside the mask and pixels, per slot."""

    def __init__(self, num_slots: int) -> None:
        self.probability = np.zeros(num_slots)
        self.area = np.zeros(num_slots, np.int64)

    def mean(self) -> NDArray[np.float64]:
        return self.probability / (self.area + 1e-6)


class TubeSpool:
    """Takes clips one after the other and gives back the masks of the slots that matter.

    Masks are thresholded at logit 0 at output size; their mean probability is taken at the size of
    the network input without its padding, over the positive pixels (VITA's rule). Amodal masks are
    empty before the first frame whose visible mask has ``min_visible_px`` pixels (A2VIS, Sec. 3.1),
    where visible masks are predicted.
    Memory does not grow with the video, apart from sixteen bytes per clip.
    """

    def __init__(
        self,
        num_slots: int,
        output_size: tuple[int, int],
        *,
        min_visible_px: int = 1,
        union_visible: bool = False,
        mask_quality: bool = True,
        directory: str | Path | None = None,
    ) -> None:
        """Open the temporary file.

        Args:
            num_slots (int): N.
            output_size (tuple[int, int]): height and width of the masks in pixels.
            min_visible_px (int): visible pixels from which on a slot counts as seen.
            union_visible (bool): add the visible mask to the amodal mask of the same frame.
            mask_quality (bool): multiply the class score by the mean probability inside the masks.
            directory (str | Path | None): where the unnamed temporary file lies; None leaves it to
                the system. It takes about 0.3 kB per mask.
        """
        self.num_slots = num_slots
        self.output_size = (int(output_size[0]), int(output_size[1]))
        self.has_visible: bool | None = None
        self.has_amodal: bool | None = None
        self._mask_quality = mask_quality
        self._min_visible_px = min_visible_px
        self._union_visible = union_visible
        self._file = MaskFile(directory)
        self._sums = {kind: _Sums(num_slots) for kind in _KINDS}
        self._seen = np.zeros(num_slots, bool)
        self._geometry: tuple[object, BoxResampler, BoxResampler] | None = None

    def add(self, clip: ClipOutput) -> None:
        """Threshold, measure and store the masks of the next clip.

        Args:
            clip (ClipOutput): logits of N slots over the frames that follow the last clip.

        Raises:
            ValueError: if the number of slots or the kinds of masks differ from before.
        """
        if clip.num_slots != self.num_slots:
            raise ValueError(
                f"TubeSpool.add: expected {self.num_slots} slots, got {clip.num_slots}"
            )
        has_visible, has_amodal = clip.visible_logits is not None, clip.amodal_logits is not None
        for kind, before, now in (
            ("visible", self.has_visible, has_visible),
            ("amodal", self.has_amodal, has_amodal),
        ):
            if before not in (None, now):
                raise ValueError(
                    f"TubeSpool.add: expected clips that all have {kind} logits or none, got one "
                    f"{'with' if now else 'without'} at frame {self.length}"
                )
        self.has_visible, self.has_amodal = has_visible, has_amodal
        self._file.append(clip.num_frames, self._encode(clip))

    @property
    def length(self) -> int:
        """Frames added so far."""
        return self._file.length

    def select(
        self,
        class_scores: Tensor,
        top_k: int,
        *,
        score_threshold: float = 0.0,
        category_ids: Sequence[int] | None = None,
        one_class_per_slot: bool = False,
    ) -> list[TubeTrack]:
        """Choose tracks by the class scores; masks are not read.

        The ``top_k`` best (slot, class) pairs by class score are taken, scored with the mean
        probability inside their masks, and kept if they have any pixel and reach the threshold.

        Args:
            class_scores (Tensor[N, K]): probabilities without the class "no object".
            top_k (int): pairs that are looked at.
            score_threshold (float): lowest ``score`` of a track.
            category_ids (Sequence[int] | None): category id of each class; None: the class index.
            one_class_per_slot (bool): look only at the best class of each slot.

        Returns:
            list[TubeTrack]: in the order of falling scores.

        Raises:
            ValueError: if ``class_scores`` or ``category_ids`` do not fit.
        """
        scores = class_scores.detach().float().cpu().numpy().astype(np.float64)
        if scores.ndim != 2 or len(scores) != self.num_slots:
            raise ValueError(
                f"TubeSpool.select: expected class_scores [{self.num_slots}, K], "
                f"got shape {scores.shape}"
            )
        if category_ids is not None and len(category_ids) != scores.shape[1]:
            raise ValueError(
                f"TubeSpool.select: expected {scores.shape[1]} category_ids, "
                f"got {len(category_ids)}"
            )
        if one_class_per_slot:
            best = scores.max(axis=1, keepdims=True)
            first = scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])
            scores = np.where(first, best, -1.0)
            top_k = min(top_k, self.num_slots)
        pairs = np.argsort(-scores, axis=None, kind="stable")[:top_k]
        slots, classes = np.divmod(pairs, scores.shape[1])
        main: Kind = "amodal" if self.has_visible is False else "visible"
        quality = {
            kind: self._sums[kind].mean()[slots] if self._mask_quality else np.ones(len(slots))
            for kind in _KINDS
        }
        chosen = scores[slots, classes]
        final = chosen * quality[main]
        two_scores = self.has_amodal and main == "visible" and self._mask_quality
        tracks: list[TubeTrack] = []
        for i in np.argsort(-final, kind="stable").tolist():
            slot = int(slots[i])
            if self._sums[main].area[slot] == 0 or final[i] < score_threshold:
                continue
            category = int(classes[i]) if category_ids is None else category_ids[int(classes[i])]
            amodal_score = float(chosen[i] * quality["amodal"][i]) if two_scores else None
            tracks.append(TubeTrack(len(tracks) + 1, slot, category, float(final[i]), amodal_score))
        return tracks

    def iter_frames(self, tracks: Sequence[TubeTrack]) -> Iterator[list[FrameObject]]:
        """Yield the masks of ``tracks`` frame by frame, in their order.

        Args:
            tracks (Sequence[TubeTrack]): what :meth:`select` returned, or a part of it.

        Yields:
            list[FrameObject]: the tracks that have a mask in the frame.
        """
        slots = {track.slot for track in tracks}
        for frames, stored in self._file.clips(slots, range(len(_KINDS))):
            masks: defaultdict[tuple[int, int], dict[str, RLE]] = defaultdict(dict)
            for mask in stored:
                masks[mask.frame, mask.slot][_KINDS[mask.kind]] = self._rle(mask)
            for frame in frames:
                yield [
                    FrameObject(
                        track.id,
                        track.category_id,
                        track.score,
                        masks[frame, track.slot].get("visible"),
                        masks[frame, track.slot].get("amodal"),
                    )
                    for track in tracks
                    if (frame, track.slot) in masks
                ]

    def iter_tube(self, track: TubeTrack, kind: Kind) -> Iterator[RLE | None]:
        """Yield one track's masks of one kind, frame by frame.

        Args:
            track (TubeTrack): what :meth:`select` returned.
            kind (str): "visible" or "amodal".

        Yields:
            RLE | None: one per frame; None where the mask is empty.
        """
        for frames, stored in self._file.clips({track.slot}, {_KINDS.index(kind)}):
            masks = {mask.frame: self._rle(mask) for mask in stored}
            for frame in frames:
                yield masks.get(frame)

    def finish(
        self,
        class_scores: Tensor,
        top_k: int,
        *,
        video_id: int = 0,
        score_threshold: float = 0.0,
        category_ids: Sequence[int] | None = None,
        one_class_per_slot: bool = False,
    ) -> VideoPrediction:
        """Choose tracks as :meth:`select` does and load their masks.

        Args:
            class_scores (Tensor[N, K]): probabilities without the class "no object".
            top_k (int): (slot, class) pairs that are looked at.
            video_id (int): id of the video entry.
            score_threshold (float): lowest ``score`` of a track.
            category_ids (Sequence[int] | None): category id of each class; None: the class index.
            one_class_per_slot (bool): look only at the best class of each slot.

        Returns:
            VideoPrediction: tracks of the same slot share their lists of masks.
        """
        tracks = self.select(
            class_scores,
            top_k,
            score_threshold=score_threshold,
            category_ids=category_ids,
            one_class_per_slot=one_class_per_slot,
        )
        slots = {track.slot for track in tracks}
        tubes: dict[tuple[int, int], MaskTube] = {
            (slot, kind): [None] * self.length for slot in slots for kind in range(len(_KINDS))
        }
        for _, stored in self._file.clips(slots, range(len(_KINDS))):
            for mask in stored:
                tubes[mask.slot, mask.kind][mask.frame] = self._rle(mask)
        height, width = self.output_size
        loaded = [
            Track(
                id=track.id,
                category_id=track.category_id,
                score=track.score,
                visible=tubes[track.slot, 0] if self.has_visible else None,
                amodal=tubes[track.slot, 1] if self.has_amodal else None,
                amodal_score=track.amodal_score,
            )
            for track in tracks
        ]
        return VideoPrediction(video_id, height, width, self.length, loaded)

    def close(self) -> None:
        """Delete the temporary file; the spool must not be used afterwards."""
        self._file.close()

    def __enter__(self) -> TubeSpool:
        """Return the spool itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the spool."""
        self.close()

    def _encode(self, clip: ClipOutput) -> list[StoredMask]:
        """Return all non-empty masks of the clip."""
        resampler, measure = self._resamplers_of(clip)
        visible = None if clip.visible_logits is None else _Logits(clip.visible_logits)
        amodal = None if clip.amodal_logits is None else _Logits(clip.amodal_logits)
        stored: list[StoredMask] = []
        for frame in range(clip.num_frames):
            for slot in range(self.num_slots):
                for kind, mask in self._masks(resampler, measure, visible, amodal, slot, frame):
                    counts = encode_crop(mask, self.output_size)
                    if counts is not None:
                        stored.append(StoredMask(self.length + frame, slot, kind, counts))
        return stored

    def _masks(
        self,
        resampler: BoxResampler,
        measure: BoxResampler,
        visible: _Logits | None,
        amodal: _Logits | None,
        slot: int,
        frame: int,
    ) -> Iterator[tuple[int, Crop]]:
        """Yield (kind, mask) of one slot in one frame and add them to the sums."""
        box = None if visible is None else visible.box(slot, frame)
        area = 0
        if visible is not None and box is not None:
            logits = visible.values[slot, frame]
            values, x, y = resampler.resample(logits, box)
            mask = values > 0
            area = int(np.count_nonzero(mask))
            self._measure("visible", slot, measure.resample(logits, box)[0])
            yield 0, Crop(mask, x, y)
        self._seen[slot] |= visible is None or area >= self._min_visible_px
        if amodal is None or not self._seen[slot]:
            return
        logits = amodal.values[slot, frame]
        amodal_box = amodal.box(slot, frame)
        if amodal_box is not None:
            self._measure("amodal", slot, measure.resample(logits, amodal_box)[0])
        added = visible if self._union_visible else None
        if added is not None:
            amodal_box = _union(box, amodal_box)
        if amodal_box is not None:
            values, x, y = resampler.resample(logits, amodal_box)
            mask = values > 0
            if added is not None:
                mask |= resampler.resample(added.values[slot, frame], amodal_box)[0] > 0
            yield 1, Crop(mask, x, y)

    def _measure(self, kind: Kind, slot: int, values: NDArray[np.float32]) -> None:
        """Add the probabilities of a mask's positive pixels to the sums of its slot."""
        inside = values[values > 0]
        sums = self._sums[kind]
        sums.probability[slot] += np.sum(1 / (1 + np.exp(-inside)), dtype=np.float64)
        sums.area[slot] += inside.size

    def _resamplers_of(self, clip: ClipOutput) -> tuple[BoxResampler, BoxResampler]:
        """Return the resamplers to the output size and to the unpadded network input."""
        key = (clip.shape[-2:], clip.padded_size, clip.image_size)
        if self._geometry is None or self._geometry[0] != key:
            output = BoxResampler.of_clip(clip, self.output_size)
            same = tuple(clip.image_size) == self.output_size
            measure = output if same else BoxResampler.of_clip(clip, clip.image_size)
            self._geometry = (key, output, measure)
        return self._geometry[1:]

    def _rle(self, mask: StoredMask) -> RLE:
        return {"size": list(self.output_size), "counts": mask.counts}


class _Logits:
    """Logits of a clip in host memory, and where each mask's positive ones lie."""

    def __init__(self, logits: Tensor) -> None:
        positive = logits.detach() > 0
        self._rows = positive.any(dim=3).cpu().numpy()  # [N, T, h]
        self._columns = positive.any(dim=2).cpu().numpy()  # [N, T, w]
        self._filled: NDArray[np.bool_] = np.asarray(self._rows.any(axis=2))
        self.values: NDArray[np.float32] = logits.detach().float().cpu().numpy()

    def box(self, slot: int, frame: int) -> tuple[int, int, int, int] | None:
        """Return first and last row, first and last column of the positive logits."""
        if not self._filled[slot, frame]:
            return None
        rows = np.flatnonzero(self._rows[slot, frame])
        columns = np.flatnonzero(self._columns[slot, frame])
        return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _union(
    a: tuple[int, int, int, int] | None, b: tuple[int, int, int, int] | None
) -> tuple[int, int, int, int] | None:
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3])
