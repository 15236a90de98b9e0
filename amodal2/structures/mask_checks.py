"""Checks of the masks of many ground-truth tracks at once, without decoding them to pixels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from amodal2.ops import join_texts
from amodal2.structures.packed_tube import PackedTube
from amodal2.structures.rle import plain_counts, to_rle
from amodal2.structures.rle_runs import contained, describe_invalid, measure_text

VISIBLE_KEY = "segmentations"
"""Key of the visible masks of a track record."""
AMODAL_KEY = "amodal_segmentations"
"""Key of the amodal masks of a track record."""

_BATCH = 1 << 12  # masks that are measured together

Problem = tuple[str, str]
"""Key of a record, and what was expected and found there."""

LARGEST_IMAGE = 2**31 - 1
"""Pixels of the largest image: pycocotools keeps runs in 32 bits."""


def size_problem(entry: dict[str, Any]) -> Problem | None:
    """Return the problem of ``height`` and ``width``, None if they are good.

    Args:
        entry: of an image or a video.
    """
    for key in ("height", "width"):
        if type(entry.get(key)) is not int or entry[key] < 1:
            return key, f"expected pixels above 0, got {entry.get(key)!r:.80}"
    pixels = entry["height"] * entry["width"]
    if pixels > LARGEST_IMAGE:
        return "height", f"expected at most {LARGEST_IMAGE} pixels (height x width), got {pixels}"
    return None


def normalise_masks(
    tracks: list[dict[str, Any]], videos: dict[int, dict[str, Any]], *, pack: bool = False
) -> dict[int, Problem]:
    """Turn all masks of records into valid compressed RLEs, in place; empty masks become None.

    Args:
        tracks: records whose lists have the right lengths.
        videos: video id -> entry with ``height`` and ``width``.
        pack: put a measured :class:`~amodal2.structures.packed_tube.PackedTube` in place of each
            list; otherwise the records have none.

    Returns:
        dict[int, tuple]: position of each record with a broken mask -> its first problem.
    """
    problems: dict[int, Problem] = {}
    batch: list[_Tube] = []
    waiting = 0
    for position, track in enumerate(tracks):
        video = videos[track["video_id"]]
        size = (video["height"], video["width"])
        for key in (VISIBLE_KEY, AMODAL_KEY):
            if key not in track:
                continue
            tube = _Tube(position, key, track[key], size)
            problem = tube.collect()
            if problem is not None:
                problems.setdefault(position, problem)
            batch.append(tube)
            waiting += len(tube.frames)
        if waiting > _BATCH:
            _measure(batch, tracks, problems, pack)
            batch, waiting = [], 0
    _measure(batch, tracks, problems, pack)
    return problems


class _Tube:
    """The masks of one kind of a record; ``frames`` have one, with ``lengths`` characters each."""

    def __init__(
        self, position: int, key: str, masks: list[Any] | PackedTube, size: tuple[int, int]
    ) -> None:
        self.position, self.key, self.masks, self.size = position, key, masks, size
        self.frames = np.zeros(0, dtype=np.int64)
        self.text, self.lengths = b"", np.zeros(0, dtype=np.int32)
        self.emptied = False

    def collect(self) -> Problem | None:
        """Join the counts of all masks, as compressed RLEs; return the first problem."""
        if isinstance(self.masks, PackedTube):
            return self._collect_packed(self.masks)
        present = [mask for mask in self.masks if mask is not None]
        frames = [frame for frame, mask in enumerate(self.masks) if mask is not None]
        problem: Problem | None = None
        counts = plain_counts(present, [[*self.size]] * len(present))
        if counts is None:
            frames, problem = self._compress(self.masks, frames)
            counts = [self.masks[frame]["counts"] for frame in frames]
        self.frames = np.array(frames, dtype=np.int64)
        self.text, self.lengths = join_texts(counts)
        return problem

    def _collect_packed(self, masks: PackedTube) -> Problem | None:
        frames = np.flatnonzero(masks.lengths)
        if len(frames) and masks.size != self.size:
            return self._compress([*masks], frames[:1].tolist())[1]
        self.frames, self.text, self.lengths = frames, masks.text, masks.lengths[frames]
        return None

    def _compress(self, masks: list[Any], frames: list[int]) -> tuple[list[int], Problem | None]:
        """Bring masks of any form into compressed form, in place; return those that have one."""
        problem: Problem | None = None
        valid = []
        for frame in frames:
            try:
                masks[frame] = to_rle(masks[frame], *self.size)
            except ValueError as error:
                problem = problem or (f"{self.key}[{frame}]", str(error))
            else:
                valid.append(frame)
        return valid, problem

    def accept(self, areas: np.ndarray) -> Problem | None:
        """Take the areas of all masks, without the empty ones; return the first problem."""
        stops = np.cumsum(self.lengths, dtype=np.int64)
        for place in np.flatnonzero(areas < 0)[:1].tolist():
            counts = self.text[stops[place] - self.lengths[place] : stops[place]]
            pixels = self.size[0] * self.size[1]
            problem = describe_invalid(counts.decode("utf-8", "surrogatepass"), pixels)
            return f"{self.key}[{self.frames[place]}]", problem
        empty = np.flatnonzero(areas == 0)
        if isinstance(self.masks, list):
            for place in empty.tolist():
                self.masks[self.frames[place]] = None
        if len(empty):
            pieces = [
                self.text[stop - n : stop] for stop, n in zip(stops, self.lengths, strict=True)
            ]
            self.text = b"".join(pieces[place] for place in np.flatnonzero(areas).tolist())
            self.lengths = np.where(areas > 0, self.lengths, 0)
            self.emptied = True
        return None

    def packed(self, areas: np.ndarray) -> PackedTube:
        """Return the accepted masks with their areas."""
        small = self.size[0] * self.size[1] < 2**31
        measured = np.zeros(len(self.masks), dtype=np.int32 if small else np.int64)
        measured[self.frames] = areas
        if isinstance(self.masks, PackedTube) and not self.emptied:
            return self.masks.measured(measured)
        lengths = np.zeros(len(self.masks), dtype=np.int32)
        lengths[self.frames] = self.lengths
        return PackedTube(self.size, self.text, lengths, measured)


def _measure(
    tubes: list[_Tube], tracks: list[dict[str, Any]], problems: dict[int, Problem], pack: bool
) -> None:
    """Enter broken masks into ``problems``, put None in place of empty ones, and pack all."""
    if not tubes:
        return
    sizes = [len(tube.frames) for tube in tubes]
    pixels = np.repeat([tube.size[0] * tube.size[1] for tube in tubes], sizes)
    lengths = np.concatenate([tube.lengths for tube in tubes])
    measured = measure_text(b"".join(tube.text for tube in tubes), lengths, pixels)
    right = bool((measured > 0).all())
    for tube, areas in zip(tubes, np.split(measured, np.cumsum(sizes)[:-1]), strict=True):
        problem = None if right else tube.accept(areas)
        if problem is not None:
            problems.setdefault(tube.position, problem)
        elif pack:
            tracks[tube.position][tube.key] = tube.packed(areas)


def count_doubts(tracks: list[dict[str, Any]], videos: dict[int, dict[str, Any]]) -> Counter[str]:
    """Count content that is legal JSON and yet contradicts the meaning of the keys.

    Args:
        tracks: records with valid masks.
        videos: video id -> entry with ``height`` and ``width``.

    Returns:
        Counter: description -> number of cases, without zero entries.
    """
    doubts: Counter[str] = Counter()
    visible, amodal = [], []
    pixels = outside = without = 0
    for track in tracks:
        video = videos[track["video_id"]]
        pixels = max(pixels, video["height"] * video["width"])
        rates = track.get("occlusion_rates", ())
        if any(rate is not None and not 0 <= rate <= 1 for rate in rates):
            doubts["tracks with occlusion_rates outside [0, 1]"] += 1
        if AMODAL_KEY not in track:
            without += 1
            continue
        seen = False
        early = 0
        for visible_mask, amodal_mask in zip(track[VISIBLE_KEY], track[AMODAL_KEY], strict=True):
            seen = seen or visible_mask is not None
            if amodal_mask is None:
                outside += visible_mask is not None
                continue
            early += not seen
            if visible_mask is not None and visible_mask["counts"] != amodal_mask["counts"]:
                visible.append(visible_mask["counts"])
                amodal.append(amodal_mask["counts"])
        if early:
            doubts["tracks with amodal masks before their first visible frame"] += 1
    if 0 < without < len(tracks):
        doubts["tracks without amodal_segmentations, while others have them"] = without
    outside += int((~contained(visible, amodal, pixels)).sum())
    if outside:
        doubts["frames of tracks with visible pixels outside the amodal mask"] = outside
    return doubts
