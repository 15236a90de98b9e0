"""Checks of the masks of many ground-truth tracks at once, without decoding them to pixels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from amodal2.structures.rle import RLE, rle_areas, to_rle
from amodal2.structures.rle_runs import contained, find_invalid_counts

VISIBLE_KEY = "segmentations"
"""Key of the visible masks of a track record."""
AMODAL_KEY = "amodal_segmentations"
"""Key of the amodal masks of a track record."""

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
    places: list[tuple[int, str, int]] = []
    rles: list[RLE] = []
    pixels: list[int] = []
    for position, track in enumerate(tracks):
        video = videos[track["video_id"]]
        size = (video["height"], video["width"])
        for key in (VISIBLE_KEY, AMODAL_KEY):
            for frame, mask in enumerate(track.get(key, ())):
                if mask is None:
                    continue
                try:
                    rle = to_rle(mask, *size)
                except ValueError as error:
                    problems.setdefault(position, (f"{key}[{frame}]", str(error)))
                    continue
                track[key][frame] = rle
                places.append((position, key, frame))
                rles.append(rle)
                pixels.append(size[0] * size[1])
    broken = find_invalid_counts([rle["counts"] for rle in rles], pixels)
    for index, text in broken.items():
        position, key, frame = places[index]
        problems.setdefault(position, (f"{key}[{frame}]", text))
    valid = [index for index in range(len(rles)) if index not in broken]
    areas = rle_areas([rles[index] for index in valid])
    for i in np.flatnonzero(areas == 0).tolist():
        position, key, frame = places[valid[i]]
        tracks[position][key][frame] = None
    return problems


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
