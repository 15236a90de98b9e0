"""Synthetic images and videos to time evaluators with: ellipses, and predictions around them.

Every number is drawn from one seeded generator in a fixed order, so that the files, and with them
all scores, are the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from amodal2.ops import mask_rle
from amodal2.structures.rle import rle_area, rle_box


@dataclass(frozen=True)
class Workload:
    """Size of a set of videos, or of images if ``length`` is 0.

    Args:
        videos: number of videos or images.
        length: frames per video.
        classes: number of classes.
        truth: true tracks or objects in each.
        predicted: predicted tracks or objects in each.
        perturbed: how many of them are displaced true ones; the others are new.
        height: of the frames in pixels.
        width: of the frames in pixels.
        shift: pixels within which the centres of displaced ones lie.
        axis: range of the second half axis in pixels.
        speed: range of the velocities in pixels per frame.
        expected_ap: what the scores must be, None where it is not published.
    """

    videos: int
    length: int
    classes: int
    truth: int
    predicted: int
    perturbed: int
    height: int = 320
    width: int = 480
    shift: float = 16
    axis: float = 45
    speed: float = 8
    expected_ap: float | None = None


_IMAGES = {"length": 0, "height": 480, "width": 640, "shift": 20, "axis": 65}
WORKLOADS = {
    "W1": Workload(
        400, classes=10, truth=8, predicted=40, perturbed=24, expected_ap=0.44462364, **_IMAGES
    ),
    "W2": Workload(25, 30, classes=5, truth=6, predicted=20, perturbed=12, expected_ap=0.48423346),
    "W3": Workload(5, 60, classes=1, truth=15, predicted=100, perturbed=30),
    "W4": Workload(60, classes=1, truth=25, predicted=100, perturbed=75, **_IMAGES),
}
"""Those of shared/reference/evaluation.md, section 6."""


@dataclass
class _Ellipse:
    """Centre, half axes, angle and class of an ellipse, and its velocity in pixels per frame."""

    x: float
    y: float
    a: float
    b: float
    angle: float
    category: int
    speed: tuple[float, float] = (0.0, 0.0)

    def draw(self, size: Workload, time: int = 0) -> dict[str, Any] | None:
        """Draw one frame; None without any pixel."""
        x, y = self.x + time * self.speed[0], self.y + time * self.speed[1]
        reach = max(self.a, self.b) + 1
        top, bottom = max(int(y - reach), 0), min(int(y + reach) + 1, size.height)
        left, right = max(int(x - reach), 0), min(int(x + reach) + 1, size.width)
        if top >= bottom or left >= right:
            return None
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        dy = (np.arange(top, bottom) + 0.5 - y)[:, None]
        dx = np.arange(left, right) + 0.5 - x
        mask = ((dx * cos + dy * sin) / self.a) ** 2 + ((dy * cos - dx * sin) / self.b) ** 2 <= 1
        if not mask.any():
            return None
        frame = (size.height, size.width)
        return mask_rle(torch.from_numpy(mask)[None], frame=frame, origin=(top, left))[0]

    def tube(self, size: Workload) -> list[dict[str, Any] | None]:
        """Draw every frame; frames without any pixel are None."""
        return [self.draw(size, time) for time in range(size.length)]

    def displaced(self, change: np.ndarray, size: Workload) -> _Ellipse:
        """Return one beside it, of another size."""
        return replace(
            self,
            x=self.x + size.shift * (change[0] - 0.5),
            y=self.y + size.shift * (change[1] - 0.5),
            a=self.a * (0.85 + 0.3 * change[2]),
            b=self.b * (0.85 + 0.3 * change[3]),
        )


def _new(row: np.ndarray, size: Workload) -> _Ellipse:
    return _Ellipse(
        x=size.width * row[0],
        y=size.height * row[1],
        a=15 + (65 if size.length else 85) * row[2],
        b=15 + size.axis * row[3],
        angle=np.pi * row[4],
        category=1 + int(size.classes * row[5]),
        speed=(size.speed * (row[6] - 0.5), size.speed * (row[7] - 0.5)) if size.length else (0, 0),
    )


Scene = tuple[int, list[_Ellipse], list[tuple[_Ellipse, float]]]
"""Number from 1, true ellipses, and predicted ones with their scores."""


def _scenes(size: Workload, seed: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    numbers = 8 if size.length else 6
    scenes = []
    for scene in range(1, size.videos + 1):
        rows, changes = rng.random((size.truth, numbers)), rng.random((size.predicted, numbers))
        luck = rng.random(size.predicted)
        truth = [_new(row, size) for row in rows]
        predicted = []
        for k, change in enumerate(changes):
            if k < size.perturbed:
                ellipse, score = truth[k % size.truth].displaced(change, size), 0.3 + 0.7 * luck[k]
            else:
                ellipse, score = _new(change, size), 0.6 * luck[k]
            predicted.append((ellipse, float(score)))
        scenes.append((scene, truth, predicted))
    return scenes


def _categories(size: Workload) -> list[dict[str, Any]]:
    return [{"id": k, "name": f"class {k}"} for k in range(1, size.classes + 1)]


def make_videos(size: Workload, seed: int = 1) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw ground truth and predictions of visible masks of videos.

    Args:
        size: what to draw.
        seed: of the generator.

    Returns:
        tuple: content of an annotation file, and prediction records.
    """
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    frame = {"height": size.height, "width": size.width, "length": size.length}
    for video, truth, predicted in _scenes(size, seed):
        for ellipse in truth:
            tube = ellipse.tube(size)
            track = {"id": len(annotations) + 1, "video_id": video, "iscrowd": 0}
            track |= {"category_id": ellipse.category, "segmentations": tube} | frame
            annotations.append(track | {"areas": [mask and rle_area(mask) for mask in tube]})
        for ellipse, score in predicted:
            record = {"video_id": video, "category_id": ellipse.category, "score": score}
            predictions.append(record | {"segmentations": ellipse.tube(size)})
    videos = [
        {"id": v, **frame, "file_names": [f"{v}/{t}.png" for t in range(size.length)]}
        for v in range(1, size.videos + 1)
    ]
    truth_file = {"videos": videos, "categories": _categories(size), "annotations": annotations}
    return truth_file, predictions


def make_images(size: Workload, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw ground truth and predictions of amodal masks of images.

    Args:
        size: what to draw.
        seed: of the generator.

    Returns:
        tuple: content of an annotation file, and prediction records.
    """
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for image, truth, predicted in _scenes(size, seed):
        for ellipse in truth:
            mask = ellipse.draw(size)
            if mask is None:
                continue
            thing = {"id": len(annotations) + 1, "image_id": image, "iscrowd": 0}
            thing |= {"category_id": ellipse.category, "amodal_segm": mask, "segmentation": mask}
            thing |= {"area": rle_area(mask), "bbox": list(rle_box(mask))}
            annotations.append(thing | {"amodal_area": thing["area"]})
        for ellipse, score in predicted:
            mask = ellipse.draw(size)
            if mask is not None:
                record = {"image_id": image, "category_id": ellipse.category, "score": score}
                predictions.append(record | {"amodal_segm": mask})
    images = [
        {"id": i, "height": size.height, "width": size.width, "file_name": f"{i}.png"}
        for i in range(1, size.videos + 1)
    ]
    truth_file = {"images": images, "categories": _categories(size), "annotations": annotations}
    return truth_file, predictions
