"""Pixel counts of completed masks, from which every mIoU variant is computed.

Letters, per object and frame: A true amodal mask, V true visible mask, P predicted amodal mask, O
union of the visible masks of the other objects in that frame, P' = P inside O and V elsewhere
(SaVos: the prediction is used only where another object could hide this one). Dimensions: N
judged object-frames (those with A), K samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from amodal2.evaluation.completion_input import CompletionObject
from amodal2.structures.rle import RLE, decode_rle

PAIRS = (
    "full",
    "full_union",
    "full_blend",
    "visible",
    "hidden",
    "hidden_blend",
    "hidden_eroded",
    "others",
)
"""Pairs of masks whose overlaps are counted, see :class:`Measures`."""

_ERODE = np.ones((5, 5), np.uint8)


@dataclass
class Measures:
    """Counts of N object-frames.

    Args:
        objects (ndarray[N]): number of the object.
        scenes (ndarray[N]): id of its video or image.
        frames (ndarray[N]): frame number.
        rates (ndarray[N]): occlusion rate.
        ends (ndarray[N]): bool; first or last judged frame of its object.
        signed_hidden (ndarray[N]): area of A minus area of V.
        overlaps: name of a pair of masks -> ndarray[K, N, 2], intersection and union in pixels:
            ``full`` P, A; ``full_union`` P or V, A; ``full_blend`` P', A; ``visible`` V, A;
            ``hidden`` P - V, A - V; ``hidden_blend`` P' - V, A - V; ``hidden_eroded`` as ``hidden``
            after erosion by 5 x 5 pixels, where the image's edge erodes nothing; ``others``
            P' and O, A and O.
        box_iou (ndarray[K, N]): IoU of the tight box of P or V with the true box.
    """

    objects: np.ndarray
    scenes: np.ndarray
    frames: np.ndarray
    rates: np.ndarray
    ends: np.ndarray
    signed_hidden: np.ndarray
    overlaps: dict[str, np.ndarray]
    box_iou: np.ndarray

    def take(self, places: np.ndarray) -> Measures:
        """Return some of the object-frames.

        Args:
            places (ndarray[M]): int, in the wanted order; one may come several times.
        """
        return Measures(
            objects=self.objects[places],
            scenes=self.scenes[places],
            frames=self.frames[places],
            rates=self.rates[places],
            ends=self.ends[places],
            signed_hidden=self.signed_hidden[places],
            overlaps={name: counts[:, places] for name, counts in self.overlaps.items()},
            box_iou=self.box_iou[:, places],
        )


def measure_completions(objects: list[CompletionObject]) -> Measures:
    """Count the pixels of all pairs of masks, frame by frame.

    Args:
        objects: all objects of the dataset with the same number of samples, since each object's O
            needs the others.

    Returns:
        Measures: object-frames by scene and frame.
    """
    by_frame: dict[tuple[int, int], list[int]] = {}
    for number, one in enumerate(objects):
        for t, mask in enumerate(one.amodal):
            if mask is not None:
                by_frame.setdefault((one.scene, t), []).append(number)
    places = [(*key, number) for key in sorted(by_frame) for number in by_frame[key]]
    judged = [[t for t, mask in enumerate(one.amodal) if mask is not None] for one in objects]
    parts = [
        _measure_frame([objects[i] for i in by_frame[key]], key[1]) for key in sorted(by_frame)
    ]
    scenes, frames, numbers = (np.array([p[i] for p in places], dtype=np.int64) for i in range(3))
    samples = len(objects[0].samples) if objects else 1
    measured = [rate for part in parts for rate in part[2].tolist()]
    stated = [objects[number].rates[t] for _, t, number in places]
    return Measures(
        objects=numbers,
        scenes=scenes,
        frames=frames,
        rates=np.array([m if s is None else s for s, m in zip(stated, measured, strict=True)]),
        ends=np.array([t in (judged[n][0], judged[n][-1]) for _, t, n in places], dtype=bool),
        signed_hidden=np.concatenate([np.zeros(0), *(part[1] for part in parts)]),
        overlaps={
            name: np.concatenate([np.zeros((samples, 0, 2)), *(part[0][name] for part in parts)], 1)
            for name in PAIRS
        },
        box_iou=np.concatenate([np.zeros((samples, 0)), *(part[3] for part in parts)], 1),
    )


def _measure_frame(
    objects: list[CompletionObject], t: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Return the overlaps [K, n, 2], |A| - |V| [n], measured rates [n] and box IoUs [K, n]."""
    size = next(mask for mask in objects[0].amodal if mask is not None)["size"]
    amodal = np.stack([_decode(one.amodal[t], size) for one in objects])
    visible = np.stack([_decode(one.visible[t], size) for one in objects])
    hidden = amodal & ~visible
    eroded = _erode(hidden)
    others = (visible.sum(axis=0, dtype=np.int32) - visible) > 0
    pairs: dict[str, list[np.ndarray]] = {}
    box_iou = []
    for k in range(len(objects[0].samples)):
        predicted = np.stack([_decode(one.samples[k][t], size) for one in objects])
        union = predicted | visible
        blend = np.where(others, predicted, visible)
        masks = (
            (predicted, amodal),
            (union, amodal),
            (blend, amodal),
            (visible, amodal),
            (predicted & ~visible, hidden),
            (blend & ~visible, hidden),
            (_erode(predicted & ~visible), eroded),
            (blend & others, amodal & others),
        )
        for name, (one, other) in zip(PAIRS, masks, strict=True):
            pairs.setdefault(name, []).append(
                np.stack([_count(one & other), _count(one | other)], 1)
            )
        box_iou.append([_box_iou(u, one.boxes[t]) for u, one in zip(union, objects, strict=True)])
    areas, seen = _count(amodal), _count(visible)
    overlaps = {name: np.stack(counts) for name, counts in pairs.items()}
    return overlaps, areas - seen, 1 - seen / areas, np.array(box_iou)


def _decode(mask: RLE | None, size: list[int]) -> np.ndarray:
    return np.zeros(size, dtype=bool) if mask is None else decode_rle(mask)


def _count(masks: np.ndarray) -> np.ndarray:
    return np.count_nonzero(masks, axis=(1, 2)).astype(np.float64)


def _erode(masks: np.ndarray) -> np.ndarray:
    return np.stack([cv2.erode(mask.astype(np.uint8), _ERODE) for mask in masks]).astype(bool)


def _box_iou(mask: np.ndarray, box: tuple[float, float, float, float]) -> float:
    """Return the IoU of the tight box of a mask with a box (x, y, w, h); 0 for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0.0
    x, y, width, height = box
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    inner_width = min(right, x + width) - max(left, x)
    inner_height = min(bottom, y + height) - max(top, y)
    inner = max(0.0, inner_width) * max(0.0, inner_height)
    return float(inner / ((right - left) * (bottom - top) + width * height - inner))
