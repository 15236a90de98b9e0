"""AP and AR by plain loops over pixels: slow, and sharing nothing with what is checked.

Rules: shared/reference/evaluation.md, sections 2.1 and 3.1 (COCO and YTVIS), all sizes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]
LARGEST = 1e10


@dataclass
class Shape:
    """One object or prediction: its class and scene, and pixels [T, H, W]."""

    scene: int
    category: int
    pixels: np.ndarray
    score: float = 0.0
    crowd: bool = False
    area: float = 0.0


def decode(mask: Any, height: int, width: int) -> np.ndarray:
    """Return the pixels [H, W] of a mask in any accepted form, run by run.

    Raises:
        ValueError: if its runs do not fill the image.
    """
    if mask is None:
        return np.zeros((height, width), dtype=bool)
    if isinstance(mask, list):
        parts = coco_mask.frPyObjects(mask, height, width)
        return coco_mask.decode(coco_mask.merge(parts)).astype(bool)
    counts = mask["counts"]
    numbers = list(counts) if isinstance(counts, list) else _numbers(counts)
    if mask["size"] != [height, width] or sum(numbers) != height * width or min(numbers) < 0:
        raise ValueError(f"expected runs of {height * width} pixels, got {mask!r:.200}")
    flat = np.concatenate([np.full(run, i % 2, dtype=bool) for i, run in enumerate(numbers)])
    return flat.reshape(width, height).T


def _numbers(text: str) -> list[int]:
    """Decode the text form: five bits per character, differences from the fourth number on."""
    numbers: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        more = True
        while more:
            bits = ord(text[position]) - 48
            if not 0 <= bits < 64:
                raise ValueError(f"expected characters 0 to o, got {text!r:.80}")
            value |= (bits & 31) << shift
            shift += 5
            position += 1
            more = bool(bits & 32)
            if not more and bits & 16:
                value -= 1 << shift
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
    return numbers


def average(truth: Iterable[Shape], found: Iterable[Shape], *, tubes: bool) -> dict[str, float]:
    """Return AP, AP50 and AR100 as fractions, -1 where nothing is defined.

    Args:
        truth: with at least one pixel each, in the order of the file.
        found: predictions in the order of the file.
        tubes: crowds are compared by their plain IoU, as YTVIS does.
    """
    cells: dict[int, dict[int, tuple[list[Shape], list[Shape]]]]
    cells = defaultdict(lambda: defaultdict(lambda: ([], [])))
    for kind, shapes in enumerate((truth, found)):
        for shape in shapes:
            cells[shape.category][shape.scene][kind].append(shape)
    precision: list[list[float]] = []
    recall: list[list[float]] = []
    for category in sorted(cells):
        scenes = [cells[category][scene] for scene in sorted(cells[category])]
        counted = sum(not _ignored(one) for own, _ in scenes for one in own)
        if counted:
            rows = [_threshold(scenes, min(t, 1 - 1e-10), counted, tubes) for t in THRESHOLDS]
            precision.append([row[0] for row in rows])
            recall.append([row[1] for row in rows])
    if not precision:
        return {"AP": -1.0, "AP50": -1.0, "AR100": -1.0}
    return {
        "AP": float(np.mean(precision)),
        "AP50": float(np.mean([row[0] for row in precision])),
        "AR100": float(np.mean(recall)),
    }


def _ignored(one: Shape) -> bool:
    return one.crowd or not 0 <= one.area <= LARGEST


def _iou(found: Shape, true: Shape, tubes: bool) -> float:
    inner = np.count_nonzero(found.pixels & true.pixels)
    if true.crowd and not tubes:
        return inner / max(1, np.count_nonzero(found.pixels))
    return inner / max(1, np.count_nonzero(found.pixels | true.pixels))


def _threshold(
    scenes: list[tuple[list[Shape], list[Shape]]], limit: float, counted: int, tubes: bool
) -> tuple[float, float]:
    """Return average precision and recall of one class at one IoU threshold."""
    outcome: list[tuple[float, bool]] = []
    for own, found in scenes:
        order = sorted(range(len(own)), key=lambda i: _ignored(own[i]))
        taken: set[int] = set()
        for one in sorted(found, key=lambda one: -one.score)[:100]:
            best, match = limit, None
            for i in order:
                if i in taken and not own[i].crowd:
                    continue
                if match is not None and not _ignored(own[match]) and _ignored(own[i]):
                    break
                iou = _iou(one, own[i], tubes)
                if iou >= best:
                    best, match = iou, i
            if match is None:
                outcome.append((one.score, False))
                continue
            taken.add(match)
            if not _ignored(own[match]):
                outcome.append((one.score, True))
    outcome.sort(key=lambda item: -item[0])
    right = wrong = 0
    curve: list[tuple[float, float]] = []
    for _, hit in outcome:
        right, wrong = right + hit, wrong + (not hit)
        curve.append((right / counted, right / (right + wrong)))
    total = 0.0
    for level in np.linspace(0, 1, 101):
        total += max((p for r, p in curve if r >= level), default=0.0)
    return total / 101, (curve[-1][0] if curve else 0.0)


def pixels(masks: list[Any], size: tuple[int, int]) -> np.ndarray:
    """Return the pixels [T, H, W] of some masks of one size."""
    return np.stack([decode(mask, *size) for mask in masks])
