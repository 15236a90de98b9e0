"""Choose tracks among the lives of slots, and gather their masks by frame.

Letters: N slots, R lives, K classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from amodal2.structures.frame_object import FrameObject
from amodal2.structures.mask_file import StoredMask
from amodal2.structures.rle import RLE
from amodal2.structures.slot_lives import KINDS, Life


@dataclass(frozen=True)
class TubeTrack:
    """A chosen track; its masks are elsewhere.

    Attributes:
        id (int): unique in the video, from 1.
        slot (int): the slot that its masks come from.
        category_id (int): category of the track.
        score (float): class score, times the mean probability inside the visible mask (where that
            kind is not predicted, the amodal mask) unless the quality is left out.
        amodal_score (float | None): the same with the amodal mask; None if that is no other score.
        first (int): frame of its birth.
        stop (int | None): one past its last frame with a mask; None if it lives.
    """

    id: int
    slot: int
    category_id: int
    score: float
    amodal_score: float | None
    first: int = 0
    stop: int | None = None

    def covers(self, frame: int) -> bool:
        """Tell whether the slot's masks of a frame are this track's.

        Args:
            frame (int): frame of the video.
        """
        return self.first <= frame and (self.stop is None or frame < self.stop)


@dataclass(frozen=True)
class MaskKinds:
    """What a model predicts and how its masks count.

    Attributes:
        visible (bool): visible masks are predicted.
        amodal (bool): amodal masks are predicted.
        quality (bool): scores take the mean probability inside the masks into account.
    """

    visible: bool
    amodal: bool
    quality: bool = True


@dataclass(frozen=True)
class TrackChoice:
    """Which tracks are wanted.

    Attributes:
        top_k (int): (life, class) pairs that are looked at.
        score_threshold (float): lowest score of a track.
        category_ids (Sequence[int] | None): category id of each class; None: the class index.
        classes (Collection[int] | None): category ids that are wanted; None: all.
        one_class_per_slot (bool): look only at the best class of each life.
    """

    top_k: int
    score_threshold: float = 0.0
    category_ids: Sequence[int] | None = None
    classes: Collection[int] | None = None
    one_class_per_slot: bool = False

    def candidates(
        self, scores: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the pairs with the best class scores; masks are not needed.

        The class score is an upper bound of a track's score, so that nothing is lost by dropping
        what is below the threshold.

        Args:
            scores (ndarray[R, K]): class scores.

        Returns:
            tuple[ndarray, ndarray]: rows and classes, best first, ties in the order of the rows.

        Raises:
            ValueError: if ``category_ids`` are not K.
        """
        if self.category_ids is not None and len(self.category_ids) != scores.shape[1]:
            raise ValueError(
                f"TrackChoice.candidates: expected {scores.shape[1]} category_ids, "
                f"got {len(self.category_ids)}"
            )
        wanted = scores >= self.score_threshold
        if self.one_class_per_slot:
            wanted &= scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])
        if self.classes is not None:
            own = [self._category(label) in self.classes for label in range(scores.shape[1])]
            wanted &= np.array(own, bool)
        pairs = np.flatnonzero(wanted)
        order = np.argsort(-scores.ravel()[pairs], kind="stable")[: self.top_k]
        rows, classes = np.divmod(pairs[order], scores.shape[1])
        return rows, classes

    def choose(
        self, lives: Sequence[Life], scores: NDArray[np.float64], kinds: MaskKinds
    ) -> list[TubeTrack]:
        """Choose and score tracks; those without any pixel are left out.

        Args:
            lives (Sequence[Life]): R lives.
            scores (ndarray[R, K]): their class scores.
            kinds (MaskKinds): what is predicted.

        Returns:
            list[TubeTrack]: in the order of falling scores, with ids from 1 in this order.

        Raises:
            ValueError: if ``category_ids`` are not K.
        """
        rows, classes = self.candidates(scores)
        main = 0 if kinds.visible else 1
        chosen = scores[rows, classes]
        mean = np.array([lives[row].mean for row in rows.tolist()]).reshape(-1, len(KINDS))
        quality = mean if kinds.quality else np.ones_like(mean)
        final = chosen * quality[:, main]
        two_scores = kinds.amodal and kinds.visible and kinds.quality
        tracks: list[TubeTrack] = []
        for i in np.argsort(-final, kind="stable").tolist():
            life = lives[int(rows[i])]
            if life.first < 0 or life.area[main] == 0 or final[i] < self.score_threshold:
                continue
            amodal_score = float(chosen[i] * quality[i, 1]) if two_scores else None
            category, score = self._category(int(classes[i])), float(final[i])
            place = (life.slot, category, score, amodal_score, life.first, life.stop)
            tracks.append(TubeTrack(len(tracks) + 1, *place))
        return tracks

    def _category(self, label: int) -> int:
        return label if self.category_ids is None else self.category_ids[label]


def score_table(class_scores: Tensor, num_slots: int) -> NDArray[np.float64]:
    """Bring class scores to host memory.

    Args:
        class_scores (Tensor[N, K]): probabilities without the class "no object".
        num_slots (int): N.

    Returns:
        ndarray[N, K]: float64.

    Raises:
        ValueError: if the shape is another one.
    """
    scores = class_scores.detach().float().cpu().numpy().astype(np.float64)
    if scores.ndim != 2 or len(scores) != num_slots:
        raise ValueError(
            f"score_table: expected class_scores [{num_slots}, K], got shape {scores.shape}"
        )
    return scores


def frame_objects(
    frames: Iterable[int],
    masks: Iterable[StoredMask],
    tracks: Sequence[TubeTrack],
    size: tuple[int, int],
) -> Iterator[list[FrameObject]]:
    """Gather masks by frame and track.

    Args:
        frames (Iterable[int]): frames of the video.
        masks (Iterable[StoredMask]): the masks in them; those of other slots are left out.
        tracks (Sequence[TubeTrack]): the tracks.
        size (tuple[int, int]): height and width of the frames in pixels.

    Yields:
        list[FrameObject]: the tracks that have a mask in the frame, in their order.
    """
    found: defaultdict[tuple[int, int], dict[str, RLE]] = defaultdict(dict)
    for mask in masks:
        rle = {"size": list(size), "counts": mask.counts}
        found[mask.frame, mask.slot][KINDS[mask.kind]] = rle
    for frame in frames:
        yield [
            FrameObject(
                track.id,
                track.category_id,
                track.score,
                found[frame, track.slot].get("visible"),
                found[frame, track.slot].get("amodal"),
            )
            for track in tracks
            if (frame, track.slot) in found and track.covers(frame)
        ]
