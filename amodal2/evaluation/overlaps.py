"""Intersections over unions of the tracks of one video, frame by frame and over the whole tubes.

Average precision needs the IoU of whole tubes, tracking metrics that of every frame; both come from
one pass. Masks are compared as run lengths by the op ``mask_rle_intersections``. Boxes are
continuous: the box [x, y, w, h] covers w h. Frames in which one side has nothing add their area to
the union only, which the sum of all areas already holds.

Dimensions: N tracks, D predicted tracks, G ground-truth tracks, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from amodal2.ops import mask_rle_intersections, text_tensors
from amodal2.structures.packed_tube import PackedTube
from amodal2.structures.rle_runs import measure_text
from amodal2.structures.track import MaskTube

_BATCH = 64  # tracks that are measured together


@dataclass
class Overlaps:
    """What the predicted and the true tracks of one video share.

    Args:
        frames (ndarray[T, D, G]): IoU in each frame; 0 where one of the two is absent.
        tubes (ndarray[D, G]): sum of the intersections over sum of the unions; 0 if both are empty.
        predicted (ndarray[T, D]): bool; the track has something in the frame.
        truth (ndarray[T, G]): the same for the ground truth.
    """

    frames: np.ndarray
    tubes: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray


@dataclass
class Tubes:
    """Mask tracks of one video, or of several for :func:`measure_tubes`.

    Args:
        masks: N times T valid masks or None.
        areas: N arrays of T pixel counts, 0 where there is no mask.
    """

    masks: list[PackedTube]
    areas: list[np.ndarray]

    def select(self, indices: Sequence[int]) -> Tubes:
        """Return some of the tracks.

        Args:
            indices: positions of the tracks, in the wanted order.
        """
        return Tubes([self.masks[i] for i in indices], [self.areas[i] for i in indices])

    def mean_areas(self) -> np.ndarray:
        """Return the mean area in pixels over the frames with a mask of each track.

        Returns:
            ndarray[N]: float; 0 for a track without any mask.
        """
        sums = np.array([areas.sum() for areas in self.areas], dtype=np.float64)
        present = np.array([np.count_nonzero(areas) for areas in self.areas], dtype=np.float64)
        return _ratio(sums, present)

    def content(self, index: int) -> list[Any]:
        """Return what tells a track from other ones, in a form that can be ordered."""
        return [mask["counts"] if mask else "" for mask in self.masks[index]]

    def overlaps(self, truth: Tubes, length: int) -> Overlaps:
        """Compare every track with every true track of the same video.

        Args:
            truth: G tracks.
            length: T, the number of frames of all tracks.
        """
        predicted_areas = np.array(self.areas, dtype=np.int64).reshape(-1, length).T
        truth_areas = np.array(truth.areas, dtype=np.int64).reshape(-1, length).T
        total = predicted_areas[:, :, None] + truth_areas[:, None]
        intersection = np.zeros_like(total)
        size = truth.frame_size()
        if size is not None:
            intersection = mask_rle_intersections(
                *self.texts(), *truth.texts(), length, size
            ).numpy()
        union = total - intersection
        tubes = _ratio(intersection.sum(axis=0), union.sum(axis=0))
        frames = _ratio(intersection, union)
        return Overlaps(frames, tubes, predicted_areas > 0, truth_areas > 0)

    def texts(self) -> tuple[Tensor, Tensor]:
        """Return the counts of all masks as ``mask_rle_intersections`` takes them."""
        lengths = [tube.lengths for tube in self.masks]
        joined = b"".join(tube.text for tube in self.masks)
        return text_tensors(joined, np.concatenate([np.zeros(0, np.int32), *lengths]))

    def frame_size(self) -> tuple[int, int] | None:
        """Return height and width of the masks, None if there is none."""
        return next((tube.size for tube in self.masks if tube.lengths.any()), None)


@dataclass
class BoxTubes:
    """Box tracks of one video, or of several.

    Args:
        boxes: N arrays [T, 4] of x, y, width and height in pixels, NaN where there is no box.
    """

    boxes: list[np.ndarray]

    def select(self, indices: Sequence[int]) -> BoxTubes:
        """Return some of the tracks.

        Args:
            indices: positions of the tracks, in the wanted order.
        """
        return BoxTubes([self.boxes[i] for i in indices])

    def mean_areas(self) -> np.ndarray:
        """Return the mean area in pixels over the frames with a box of each track.

        Returns:
            ndarray[N]: float; 0 for a track without any box.
        """
        areas = [boxes[:, 2] * boxes[:, 3] for boxes in self.boxes]
        return np.array([mean_area(np.nan_to_num(one)) for one in areas], dtype=np.float64)

    def content(self, index: int) -> list[Any]:
        """Return what tells a track from other ones, in a form that can be ordered."""
        return np.nan_to_num(self.boxes[index], nan=-np.inf).ravel().tolist()

    def overlaps(self, truth: BoxTubes, length: int) -> Overlaps:
        """Compare every track with every true track of the same video.

        Args:
            truth: G tracks.
            length: T, the number of frames of all tracks.
        """
        low, high, areas, predicted = _corners(self.boxes, length)
        true_low, true_high, true_areas, present = _corners(truth.boxes, length)
        sides = np.minimum(high[:, :, None], true_high[:, None])
        sides = np.maximum(sides - np.maximum(low[:, :, None], true_low[:, None]), 0)
        intersection = np.nan_to_num(sides[..., 0] * sides[..., 1])  # [T, D, G]
        total = areas[:, :, None] + true_areas[:, None]
        frames = _ratio(intersection, total - intersection)
        tubes = _ratio(intersection.sum(axis=0), (total - intersection).sum(axis=0))
        return Overlaps(frames, tubes, predicted, present)


def mean_area(areas: Sequence[Any] | np.ndarray) -> float:
    """Average the areas of the frames that have one.

    Args:
        areas: T pixel counts; None and 0 are left out.

    Returns:
        float: 0 if nothing is left.
    """
    known = np.array([area or 0 for area in areas], dtype=np.float64)
    present = np.count_nonzero(known)
    return float(known.sum() / present) if present else 0.0


def measure_tubes(masks: Sequence[MaskTube | PackedTube]) -> Tubes:
    """Compute the areas of many tracks at once.

    Args:
        masks: N times T valid RLEs or None; T may differ between tracks.

    Returns:
        Tubes: the masks with their areas.
    """
    tubes = [tube if isinstance(tube, PackedTube) else PackedTube.of(tube) for tube in masks]
    missing = [tube for tube in tubes if tube.areas is None]
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        lengths = np.concatenate([tube.lengths for tube in batch])
        sizes = [len(tube) for tube in batch]
        pixels = np.repeat([tube.size[0] * tube.size[1] for tube in batch], sizes)
        pixels[lengths == 0] = 0
        areas = measure_text(b"".join(tube.text for tube in batch), lengths, pixels)
        for tube, own in zip(batch, np.split(areas, np.cumsum(sizes)[:-1]), strict=True):
            tube.areas = own
    return Tubes(tubes, [tube.areas for tube in tubes if tube.areas is not None])


def _corners(
    boxes: list[np.ndarray], length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return both corners [T, N, 2], areas (0 if absent) and presence [T, N] of N box tracks."""
    stacked = np.array(boxes, dtype=np.float64).reshape(-1, length, 4).swapaxes(0, 1)
    low, high = stacked[..., :2], stacked[..., :2] + stacked[..., 2:]
    areas = np.nan_to_num((high - low).prod(axis=-1))
    return low, high, areas, ~np.isnan(stacked[..., 0])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
