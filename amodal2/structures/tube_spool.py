"""Mask tubes of all slots of a video, kept compressed in a temporary file.

Class scores, and with them the choice of tracks, exist only after the last clip. Until then every
slot's masks wait in the file; memory holds a few running sums per slot. Letters: N slots, K
classes, T frames, H W frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal2.structures.clip import ClipOutput
from amodal2.structures.clip_masker import ClipMasker
from amodal2.structures.frame_object import FrameObject
from amodal2.structures.mask_file import MaskFile, StoredMask
from amodal2.structures.rle import RLE
from amodal2.structures.slot_lives import KINDS, Kind, Life, SlotLives
from amodal2.structures.track import MaskTube, Track, VideoPrediction
from amodal2.structures.tube_track import (
    MaskKinds,
    TrackChoice,
    TubeTrack,
    frame_objects,
    score_table,
)
from amodal2.utils.closing import Closing


class TubeSpool(Closing):
    """Takes clips one after the other and gives back the masks of the slots that matter.

    How logits become masks is said in ``clip_masker.py``; which frames of a slot are one track, in
    ``slot_lives.py``. Memory does not grow with the video, apart from sixteen bytes per clip, and
    with ``max_gone_frames`` some 100 bytes per track that ended and was not dropped.

    Attributes:
        lives (SlotLives): the running sums of the slots.
        has_visible (bool | None): visible masks are predicted; None before the first clip.
        has_amodal (bool | None): amodal masks are predicted; None before the first clip.
    """

    def __init__(
        self,
        num_slots: int,
        output_size: tuple[int, int],
        *,
        min_visible_px: int = 1,
        union_visible: bool = False,
        mask_quality: bool = True,
        max_gone_frames: int | None = None,
        directory: str | Path | None = None,
    ) -> None:
        """Open the temporary file.

        Args:
            num_slots (int): N.
            output_size (tuple[int, int]): height and width of the masks in pixels.
            min_visible_px (int): visible pixels from which on a slot counts as seen.
            union_visible (bool): add the visible mask to the amodal mask of the same frame.
            mask_quality (bool): multiply the class score by the mean probability inside the masks.
            max_gone_frames (int | None): frames in a row without a mask that a track survives; None
                makes a slot one track.
            directory (str | Path | None): where the unnamed temporary file lies; None leaves it to
                the system. It takes about 0.3 kB per mask.
        """
        self.num_slots = num_slots
        self.output_size = (int(output_size[0]), int(output_size[1]))
        self.has_visible: bool | None = None
        self.has_amodal: bool | None = None
        self.lives = SlotLives(
            num_slots, min_visible_px=min_visible_px, max_gone_frames=max_gone_frames
        )
        self._masker = ClipMasker(self.output_size, self.lives, union_visible=union_visible)
        self._mask_quality = mask_quality
        self._file = MaskFile(directory)
        self._ended: list[tuple[Life, NDArray[np.float64] | None]] = []
        self._last_scores: NDArray[np.float64] | None = None

    def add(self, clip: ClipOutput, class_scores: Tensor | None = None) -> None:
        """Threshold, measure and store the masks of the next clip.

        Args:
            clip (ClipOutput): logits of N slots over the frames that follow the last clip.
            class_scores (Tensor[N, K] | None): class probabilities after this clip. A track that
                ends keeps those of the last clip that showed it; without them it takes what
                :meth:`select` is given.

        Raises:
            ValueError: if the number of slots or the kinds of masks differ from before.
        """
        self._check(clip)
        start = self.length
        self._file.append(clip.num_frames, self._masker.masks(clip, start))
        if self.lives.max_gone_frames is not None:
            scores = None if class_scores is None else score_table(class_scores, self.num_slots)
            self._keep_ended(start, scores)

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

        The ``top_k`` best (track, class) pairs by class score are taken, scored with the mean
        probability inside their masks, and kept if they have any pixel and reach the threshold.

        Args:
            class_scores (Tensor[N, K]): probabilities without the class "no object".
            top_k (int): pairs that are looked at.
            score_threshold (float): lowest ``score`` of a track.
            category_ids (Sequence[int] | None): category id of each class; None: the class index.
            one_class_per_slot (bool): look only at the best class of each slot.

        Returns:
            list[TubeTrack]: in the order of falling scores, with ids from 1 in this order.

        Raises:
            ValueError: if ``class_scores`` or ``category_ids`` do not fit.
        """
        return self.choose(
            class_scores,
            TrackChoice(
                top_k, score_threshold, category_ids, one_class_per_slot=one_class_per_slot
            ),
        )

    def choose(self, class_scores: Tensor, choice: TrackChoice) -> list[TubeTrack]:
        """Choose tracks as :meth:`select` does.

        Args:
            class_scores (Tensor[N, K]): probabilities without the class "no object".
            choice (TrackChoice): which tracks are wanted.

        Returns:
            list[TubeTrack]: in the order of falling scores, with ids from 1 in this order.

        Raises:
            ValueError: if ``class_scores`` or the category ids do not fit.
        """
        now = score_table(class_scores, self.num_slots)
        kept = [now[life.slot] if scores is None else scores for life, scores in self._ended]
        lives = [*(life for life, _ in self._ended), *self.lives.running()]
        table = np.concatenate([np.array(kept).reshape(-1, now.shape[1]), now])
        kinds = MaskKinds(self.has_visible is not False, bool(self.has_amodal), self._mask_quality)
        return choice.choose(lives, table, kinds)

    def drop_ended(self, choice: TrackChoice) -> None:
        """Forget tracks that ended and can no longer be chosen, so that they do not pile up.

        Args:
            choice (TrackChoice): what :meth:`choose` will be called with.
        """
        known = [scores for _, scores in self._ended if scores is not None]
        if len(known) == len(self._ended) > choice.top_k:
            rows, _ = choice.candidates(np.array(known))
            self._ended = [self._ended[row] for row in sorted(set(rows.tolist()))]

    def origins(self) -> set[tuple[int, int]]:
        """Return slot and first frame of all tracks that can still be chosen."""
        lives = [*(life for life, _ in self._ended), *self.lives.running()]
        return {(life.slot, life.first) for life in lives}

    def iter_frames(
        self, tracks: Sequence[TubeTrack], start: int = 0
    ) -> Iterator[list[FrameObject]]:
        """Yield the masks of ``tracks`` frame by frame, in their order.

        Args:
            tracks (Sequence[TubeTrack]): what :meth:`select` returned, or a part of it.
            start (int): first frame of the clip to begin with.

        Yields:
            list[FrameObject]: the tracks that have a mask in the frame.
        """
        slots = {track.slot for track in tracks}
        for frames, stored in self._file.clips(slots, range(len(KINDS)), start):
            yield from frame_objects(frames, stored, tracks, self.output_size)

    def iter_tube(self, track: TubeTrack, kind: Kind) -> Iterator[RLE | None]:
        """Yield one track's masks of one kind, frame by frame.

        Args:
            track (TubeTrack): what :meth:`select` returned.
            kind (str): "visible" or "amodal".

        Yields:
            RLE | None: one per frame; None where the mask is empty.
        """
        for frames, stored in self._file.clips({track.slot}, {KINDS.index(kind)}):
            masks = {mask.frame: self._rle(mask) for mask in stored if track.covers(mask.frame)}
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
            VideoPrediction: classes of the same track share its lists of masks.
        """
        tracks = self.select(
            class_scores,
            top_k,
            score_threshold=score_threshold,
            category_ids=category_ids,
            one_class_per_slot=one_class_per_slot,
        )
        lives = {(track.slot, track.first): track for track in tracks}
        tubes: dict[tuple[int, int, int], MaskTube] = {
            (*life, kind): [None] * self.length for life in lives for kind in range(len(KINDS))
        }
        for _, stored in self._file.clips({slot for slot, _ in lives}, range(len(KINDS))):
            for mask in stored:
                for (slot, first), track in lives.items():
                    if slot == mask.slot and track.covers(mask.frame):
                        tubes[slot, first, mask.kind][mask.frame] = self._rle(mask)
        height, width = self.output_size
        loaded = [
            Track(
                id=track.id,
                category_id=track.category_id,
                score=track.score,
                visible=tubes[track.slot, track.first, 0] if self.has_visible else None,
                amodal=tubes[track.slot, track.first, 1] if self.has_amodal else None,
                amodal_score=track.amodal_score,
            )
            for track in tracks
        ]
        return VideoPrediction(video_id, height, width, self.length, loaded)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors, numbers and lists, the masks included."""
        return {
            "num_slots": self.num_slots,
            "output_size": list(self.output_size),
            "kinds": [self.has_visible, self.has_amodal],
            "lives": self.lives.state_dict(),
            "ended": [[*_plain(life), _tensor(scores)] for life, scores in self._ended],
            "last_scores": _tensor(self._last_scores),
            "masks": self._file.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Args:
            state (dict): from :meth:`state_dict` of a spool with as many slots and the same size.
        """
        self.has_visible, self.has_amodal = state["kinds"]
        self.lives.load_state_dict(state["lives"])
        self._ended = [
            (Life(slot, first, stop, tuple(mean), tuple(area)), _array(scores))
            for slot, first, stop, mean, area, scores in state["ended"]
        ]
        self._last_scores = _array(state["last_scores"])
        self._file.load_state_dict(state["masks"])

    def close(self) -> None:
        """Delete the temporary file; the spool must not be used afterwards."""
        self._file.close()

    def _check(self, clip: ClipOutput) -> None:
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

    def _keep_ended(self, start: int, now: NDArray[np.float64] | None) -> None:
        """Take the tracks that ended in the clip that begins at ``start``."""
        for life in self.lives.pop_ended():
            shown_before = life.stop is not None and life.stop <= start
            scores = self._last_scores if shown_before else now
            self._ended.append((life, None if scores is None else scores[life.slot].copy()))
        if now is not None:
            if self._last_scores is None:
                self._last_scores = np.zeros_like(now)
            shown = (self.lives.first >= 0) & (self.lives.gone < self.length - start)
            self._last_scores[shown] = now[shown]

    def _rle(self, mask: StoredMask) -> RLE:
        return {"size": list(self.output_size), "counts": mask.counts}


def _plain(life: Life) -> list[Any]:
    return [life.slot, life.first, life.stop, list(life.mean), list(life.area)]


def _tensor(array: NDArray[np.float64] | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array.copy())


def _array(tensor: Tensor | None) -> NDArray[np.float64] | None:
    return None if tensor is None else tensor.cpu().numpy().copy()
