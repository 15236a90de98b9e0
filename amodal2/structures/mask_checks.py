"""Checks of the masks of many ground-truth tracks at once, without decoding them to pixels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from amodal2.structures.rle import plain_counts, to_rle
from amodal2.structures.rle_runs import contained, describe_invalid, measure_counts

VISIBLE_KEY = "segmentations"
"""Key of the visible masks of a track record."""
AMODAL_KEY = "amodal_segmentations"
"""Key of the amodal masks of a track record."""

_BATCH = 1 << 12  # masks that are measured together

Problem = tuple[str, str]
"""Key of a record, and what was expected and found there."""


def normalise_masks(
    tracks: list[dict[str, Any]], videos: dict[int, dict[str, Any]]
) -> dict[int, Problem]:
    """Turn all masks of records into valid compressed RLEs, in place; empty masks become None.

    Args:
        tracks: records whose lists have the right lengths.
        videos: video id -> entry with ``height`` and ``width``.

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
            tube = _Tube(position, key, track.get(key, []), size[0] * size[1])
            problem = tube.collect(size)
            if problem is not None:
                problems.setdefault(position, problem)
            batch.append(tube)
            waiting += len(tube.frames)
        if waiting > _BATCH:
            _measure(batch, problems)
            batch, waiting = [], 0
    _measure(batch, problems)
    return problems


class _Tube:
    """One list of masks of a record, which is brought into normal form."""

    def __init__(self, position: int, key: str, masks: list[Any], pixels: int) -> None:
        self.position, self.key, self.masks, self.pixels = position, key, masks, pixels
        self.frames: list[int] = []
        self.counts: list[str] = []

    def collect(self, size: tuple[int, int]) -> Problem | None:
        """Note the counts of all masks, as compressed RLEs; return the first problem."""
        masks = self.masks
        self.frames = [frame for frame, mask in enumerate(masks) if mask is not None]
        present = [mask for mask in masks if mask is not None]
        counts = plain_counts(present, [[*size]] * len(present))
        if counts is not None:
            self.counts = counts
            return None
        problem: Problem | None = None
        valid = []
        for frame in self.frames:
            try:
                masks[frame] = to_rle(masks[frame], *size)
            except ValueError as error:
                problem = problem or (f"{self.key}[{frame}]", str(error))
                continue
            valid.append(frame)
        self.frames, self.counts = valid, [masks[frame]["counts"] for frame in valid]
        return problem


def _measure(tubes: list[_Tube], problems: dict[int, Problem]) -> None:
    """Enter broken masks into ``problems`` and put None in place of empty ones."""
    sizes = np.array([len(tube.frames) for tube in tubes], dtype=np.int64)
    pixels = np.repeat(np.array([tube.pixels for tube in tubes], dtype=np.int64), sizes)
    areas = measure_counts([text for tube in tubes for text in tube.counts], pixels)
    first = np.concatenate([[0], np.cumsum(sizes)])
    for index in np.flatnonzero(areas <= 0).tolist():
        owner = int(np.searchsorted(first, index, side="right")) - 1
        tube, place = tubes[owner], index - int(first[owner])
        frame = tube.frames[place]
        if areas[index] == 0:
            tube.masks[frame] = None
        else:
            text = describe_invalid(tube.counts[place], tube.pixels)
            problems.setdefault(tube.position, (f"{tube.key}[{frame}]", text))


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
