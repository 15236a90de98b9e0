"""The evaluation of YouTube-VIS in the calls of its official script, to compare times with.

The script (``ytvoseval.py``, a fork of pycocotools that no package offers) is not copied; this is
the same work in the same calls of pycocotools, described in shared/reference/evaluation.md, 3.1 and
6: predictions are measured mask by mask when they are loaded; for every pair of a predicted and a
true track, each frame that has both masks costs four calls (intersection, union and the area of
each) and a frame with one mask costs one; matching is a plain loop per category, size and video.

Dimensions: D predictions, G true tracks, T thresholds of IoU, R of recall, K categories, A area
ranges, M limits of predictions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = ((0, 1e10), (0, 128**2), (128**2, 256**2), (256**2, 1e10))
LIMITS = (1, 10, 100)

Track = dict[str, Any]
Key = tuple[int, int]
"""Video and category."""


def score_tracks(
    truth: dict[str, Any],
    predictions: Sequence[Track],
    *,
    masks: str = "segmentations",
    areas: str = "areas",
    class_agnostic: bool = False,
) -> dict[str, float]:
    """Return AP and AR of tubes.

    Args:
        truth: content of an annotation file; its masks are compressed RLEs.
        predictions: prediction records.
        masks: key of the masks of both.
        areas: key of the areas of true tracks.
        class_agnostic: all categories count as one.
    """
    loaded = [_load(record, number, masks) for number, record in enumerate(predictions, start=1)]
    true_tracks = _group(
        [{**track, "area": _mean(track[areas])} for track in truth["annotations"]], class_agnostic
    )
    found = _group(loaded, class_agnostic)
    videos = sorted(video["id"] for video in truth["videos"])
    categories = [-1] if class_agnostic else sorted(one["id"] for one in truth["categories"])
    keys = [(video, category) for category in categories for video in videos]
    overlaps = {key: _overlaps(found[key], true_tracks[key], masks) for key in keys}
    results = [
        [
            [_match(found[v, k], true_tracks[v, k], overlaps[v, k], area) for v in videos]
            for area in AREAS
        ]
        for k in categories
    ]
    return _summarize(*_accumulate(results))


def _load(record: Track, number: int, key: str) -> Track:
    """Measure the masks of a prediction, one call for the area and one for the box of each."""
    loaded = deepcopy({name: record[name] for name in ("video_id", "category_id", "score")})
    areas, boxes = [], []
    for mask in record[key]:
        areas.append(coco_mask.area(mask) if mask else None)
        boxes.append(coco_mask.toBbox(mask) if mask else None)
    measured = {"areas": areas, "bboxes": boxes, "area": _mean(areas), "id": number, "iscrowd": 0}
    return loaded | measured | {key: record[key]}


def _mean(areas: Sequence[Any]) -> float:
    present = [area for area in areas if area]
    return float(np.array(present).mean()) if present else 0.0


def _group(tracks: Sequence[Track], class_agnostic: bool) -> dict[Key, list[Track]]:
    groups: defaultdict[Key, list[Track]] = defaultdict(list)
    for track in sorted(tracks, key=lambda one: one["category_id"] if class_agnostic else 0):
        groups[track["video_id"], -1 if class_agnostic else track["category_id"]].append(track)
    return groups


def _ranked(found: list[Track]) -> list[Track]:
    order = np.argsort([-track["score"] for track in found], kind="mergesort")
    return [found[i] for i in order[: LIMITS[-1]]]


def _overlaps(found: list[Track], true_tracks: list[Track], key: str) -> np.ndarray:
    ranked = _ranked(found)
    iou = np.zeros((len(ranked), len(true_tracks)))
    for d, g in np.ndindex(iou.shape):
        iou[d, g] = _tube_iou(ranked[d][key], true_tracks[g][key])
    return iou


def _tube_iou(tube: list[Any], other: list[Any]) -> float:
    intersection = union = 0.0
    for mask, other_mask in zip(tube, other, strict=True):
        if mask and other_mask:
            intersection += coco_mask.area(coco_mask.merge([mask, other_mask], True))
            union += coco_mask.area(coco_mask.merge([mask, other_mask], False))
        elif mask or other_mask:
            union += coco_mask.area(mask or other_mask)
    return intersection / union if union > 0 else 0.0


Matched = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Scores [D], taken true track or 0 [T, D], ignored [T, D], and the number that counts."""


def _match(
    found: list[Track], true_tracks: list[Track], iou: np.ndarray, area: tuple[float, float]
) -> Matched | None:
    """Match the tracks of one video at each threshold."""
    if not found and not true_tracks:
        return None
    low, high = area
    outside = np.array(
        [bool(track["iscrowd"]) or not low <= track["area"] <= high for track in true_tracks], bool
    )
    order = np.argsort(outside, kind="mergesort")
    ranked = _ranked(found)
    taken, ignored = np.zeros((10, len(ranked))), np.zeros((10, len(ranked)), dtype=bool)
    by_truth = np.zeros((10, len(true_tracks)))
    for t, threshold in enumerate(THRESHOLDS):
        for d in range(len(ranked)):
            best, chosen = min(threshold, 1 - 1e-10), -1
            for g in order:
                if by_truth[t, g] > 0 and not true_tracks[g]["iscrowd"]:
                    continue
                if chosen > -1 and not outside[chosen] and outside[g]:
                    break
                if iou[d, g] < best:
                    continue
                best, chosen = iou[d, g], g
            if chosen > -1:
                ignored[t, d] = outside[chosen]
                taken[t, d] = true_tracks[chosen]["id"]
                by_truth[t, chosen] = ranked[d]["id"]
    small = np.array([not low <= track["area"] <= high for track in ranked], dtype=bool)
    ignored |= (taken == 0) & small
    scores = np.array([track["score"] for track in ranked])
    return scores, taken, ignored, int((~outside).sum())


def _accumulate(results: list[list[list[Matched | None]]]) -> tuple[np.ndarray, np.ndarray]:
    """Return precision [T, R, K, A, M] and recall [T, K, A, M], -1 without ground truth."""
    shape = (len(results), len(AREAS), len(LIMITS))
    precision, recall = -np.ones((10, 101, *shape)), -np.ones((10, *shape))
    for k, a, m in np.ndindex(shape):
        cells = [cell for cell in results[k][a] if cell is not None]
        positives = sum(cell[3] for cell in cells)
        if not positives:
            continue
        limit = LIMITS[m]
        scores = np.concatenate([cell[0][:limit] for cell in cells])
        order = np.argsort(-scores, kind="mergesort")
        taken = np.concatenate([cell[1][:, :limit] for cell in cells], axis=1)[:, order]
        ignored = np.concatenate([cell[2][:, :limit] for cell in cells], axis=1)[:, order]
        right = np.cumsum((taken > 0) & ~ignored, axis=1, dtype=float)
        wrong = np.cumsum((taken == 0) & ~ignored, axis=1, dtype=float)
        for t in range(10):
            reached = right[t] / positives
            precise = (right[t] / (wrong[t] + right[t] + np.spacing(1))).tolist()
            recall[t, k, a, m] = reached[-1] if len(reached) else 0
            for i in range(len(precise) - 1, 0, -1):
                precise[i - 1] = max(precise[i - 1], precise[i])
            first = np.searchsorted(reached, RECALLS, side="left")
            sampled = [precise[i] if i < len(precise) else 0.0 for i in first]
            precision[t, :, k, a, m] = sampled
    return precision, recall


def _summarize(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    def mean(values: np.ndarray) -> float:
        defined = values[values > -1]
        return float(defined.mean()) if defined.size else -1.0

    stats = {"AP": mean(precision[..., 0, -1]), "AP50": mean(precision[0, ..., 0, -1])}
    stats["AP75"] = mean(precision[5, ..., 0, -1])
    stats |= {f"AP{size}": mean(precision[..., a, -1]) for a, size in enumerate("sml", start=1)}
    stats |= {f"AR{limit}": mean(recall[..., 0, m]) for m, limit in enumerate(LIMITS)}
    return stats | {f"AR{size}": mean(recall[..., a, -1]) for a, size in enumerate("sml", start=1)}
