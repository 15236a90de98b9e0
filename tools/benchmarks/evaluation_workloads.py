"""Synthetic videos to time evaluators with: moving ellipses, and predictions drawn around them.

Every number is drawn from one seeded generator in a fixed order, so that the files, and with them
all scores, are the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from amodal2.structures.rle import encode_mask, rle_area


@dataclass(frozen=True)
class Workload:
    """Size of a set of videos.

    Args:
        videos: number of videos.
        length: frames per video.
        classes: number of classes.
        truth: true tracks per video.
        predicted: predicted tracks per video.
        perturbed: how many of them are displaced true tracks; the others are new.
        height: of the frames in pixels.
        width: of the frames in pixels.
    """

    videos: int
    length: int
    classes: int
    truth: int
    predicted: int
    perturbed: int
    height: int = 320
    width: int = 480


VIDEO_WORKLOADS = {
    "W2": Workload(videos=25, length=30, classes=5, truth=6, predicted=20, perturbed=12),
    "W3": Workload(videos=5, length=60, classes=1, truth=15, predicted=100, perturbed=30),
}


@dataclass
class _Ellipse:
    """Centre, half axes, angle and class of an ellipse, and its velocity in pixels per frame."""

    x: float
    y: float
    a: float
    b: float
    angle: float
    category: int
    speed: tuple[float, float]

    def tube(self, size: Workload) -> list[dict[str, Any] | None]:
        """Draw every frame; frames without any pixel are None."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        y, x = np.mgrid[: size.height, : size.width] + 0.5
        masks: list[dict[str, Any] | None] = []
        for t in range(size.length):
            dx, dy = x - (self.x + t * self.speed[0]), y - (self.y + t * self.speed[1])
            mask = ((dx * cos + dy * sin) / self.a) ** 2 + (
                (dy * cos - dx * sin) / self.b
            ) ** 2 <= 1
            masks.append(encode_mask(mask) if mask.any() else None)
        return masks


def make_videos(size: Workload, seed: int = 1) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw ground truth and predictions of visible masks.

    Args:
        size: what to draw.
        seed: of the generator.

    Returns:
        tuple: content of an annotation file, and prediction records.
    """
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for video in range(1, size.videos + 1):
        rows, changes = rng.random((size.truth, 8)), rng.random((size.predicted, 8))
        luck = rng.random(size.predicted)
        truth = [_new(row, size) for row in rows]
        for ellipse in truth:
            tube = ellipse.tube(size)
            track = {"id": len(annotations) + 1, "video_id": video, "iscrowd": 0}
            track |= {"category_id": ellipse.category, "segmentations": tube}
            track |= {"height": size.height, "width": size.width, "length": size.length}
            annotations.append(track | {"areas": [mask and rle_area(mask) for mask in tube]})
        for k, change in enumerate(changes):
            if k < size.perturbed:
                ellipse, score = _perturbed(truth[k % size.truth], change), 0.3 + 0.7 * luck[k]
            else:
                ellipse, score = _new(change, size), 0.6 * luck[k]
            record = {"video_id": video, "category_id": ellipse.category, "score": float(score)}
            predictions.append(record | {"segmentations": ellipse.tube(size)})
    frame = {"height": size.height, "width": size.width, "length": size.length}
    videos = [
        {"id": v, **frame, "file_names": [f"{v}/{t}.png" for t in range(size.length)]}
        for v in range(1, size.videos + 1)
    ]
    categories = [{"id": k, "name": f"class {k}"} for k in range(1, size.classes + 1)]
    return {"videos": videos, "categories": categories, "annotations": annotations}, predictions


def _new(row: np.ndarray, size: Workload) -> _Ellipse:
    return _Ellipse(
        x=size.width * row[0],
        y=size.height * row[1],
        a=15 + 65 * row[2],
        b=15 + 45 * row[3],
        angle=np.pi * row[4],
        category=1 + int(size.classes * row[5]),
        speed=(8 * (row[6] - 0.5), 8 * (row[7] - 0.5)),
    )


def _perturbed(ellipse: _Ellipse, change: np.ndarray) -> _Ellipse:
    return _Ellipse(
        x=ellipse.x + 16 * (change[0] - 0.5),
        y=ellipse.y + 16 * (change[1] - 0.5),
        a=ellipse.a * (0.85 + 0.3 * change[2]),
        b=ellipse.b * (0.85 + 0.3 * change[3]),
        angle=ellipse.angle,
        category=ellipse.category,
        speed=ellipse.speed,
    )
