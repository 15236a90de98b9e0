"""True and predicted boxes, or tracks of boxes, sorted into cells of one category.

A cell of detection is a frame, one of tracking a video. The federation of LVIS decides which
predictions are compared at all, and which cannot be wrong.

Dimensions: D predictions and G ground truths of a cell, N boxes, K tracks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from amodal2.evaluation.image_shapes import shape_iou
from amodal2.evaluation.overlaps import BoxTubes
from amodal2.evaluation.tao_boxes import Boxes, Frames
from amodal2.structures.video_json import VideoDataset


@dataclass
class BoxCell:
    """One cell.

    Args:
        category: id.
        scene: id of the video.
        rows (ndarray[D]): positions of the predictions by descending score.
        columns (ndarray[G]): positions of the ground truths.
        iou (ndarray[D, G]): of every pair.
    """

    category: int
    scene: int
    rows: np.ndarray
    columns: np.ndarray
    iou: np.ndarray


@dataclass
class BoxTracks:
    """K tracks of boxes.

    Args:
        categories (ndarray[K]): ids.
        videos (ndarray[K]): ids.
        scores (ndarray[K]): mean score of the boxes.
        lengths (ndarray[K]): numbers of boxes.
        areas (ndarray[K]): mean area of the boxes in square pixels.
        members: K arrays of positions of boxes.
    """

    categories: np.ndarray
    videos: np.ndarray
    scores: np.ndarray
    lengths: np.ndarray
    areas: np.ndarray
    members: list[np.ndarray]

    def select(self, chosen: np.ndarray) -> BoxTracks:
        """Return some of the tracks.

        Args:
            chosen (ndarray[K]): bool.
        """
        return BoxTracks(
            self.categories[chosen],
            self.videos[chosen],
            self.scores[chosen],
            self.lengths[chosen],
            self.areas[chosen],
            [one for one, keep in zip(self.members, chosen, strict=True) if keep],
        )


def join_tracks(boxes: Boxes, frames: Frames) -> BoxTracks:
    """Join boxes by the numbers of their tracks; tracks without any box are left out.

    Args:
        boxes: N boxes.
        frames: of the dataset.
    """
    order = np.argsort(boxes.tracks, kind="stable")
    starts = np.flatnonzero(np.diff(boxes.tracks[order], prepend=-1))
    members = np.split(order, starts[1:]) if len(order) else []
    first = np.array([one[0] for one in members], dtype=np.int64)
    areas = boxes.boxes[:, 2] * boxes.boxes[:, 3]
    return BoxTracks(
        boxes.categories[first],
        frames.videos[boxes.frames[first]],
        np.array([_mean_score(boxes.scores[one]) for one in members], dtype=np.float64),
        np.array([len(one) for one in members], dtype=np.int64),
        np.array([areas[one].mean() for one in members], dtype=np.float64),
        members,
    )


def frame_cells(frames: Frames, truth: Boxes, found: Boxes) -> Iterator[BoxCell]:
    """Compare the boxes of each frame; in ascending order of categories, then of frames.

    Args:
        frames: of the dataset.
        truth: the true boxes.
        found: the predicted boxes that are compared.

    Yields:
        BoxCell: with positions of boxes.
    """
    own = _groups(truth.categories, truth.frames, np.zeros(len(truth.frames)))
    others = _groups(found.categories, found.frames, found.scores)
    none = np.zeros(0, dtype=np.int64)
    for category, frame in sorted({*own, *others}):
        columns, rows = own.get((category, frame), none), others.get((category, frame), none)
        crowd = np.zeros(len(columns), dtype=bool)
        iou = shape_iou(list(found.boxes[rows]), list(truth.boxes[columns]), crowd)
        yield BoxCell(category, int(frames.videos[frame]), rows, columns, iou)


def track_cells(
    frames: Frames, truth: tuple[Boxes, BoxTracks], found: tuple[Boxes, BoxTracks]
) -> Iterator[BoxCell]:
    """Compare the tracks of each video; in ascending order of categories, then of videos.

    Args:
        frames: of the dataset.
        truth: the true boxes and their tracks.
        found: the predicted ones that are compared.

    Yields:
        BoxCell: with positions of tracks.
    """
    (_, own_tracks), (_, other_tracks) = truth, found
    own = _groups(own_tracks.categories, own_tracks.videos, own_tracks.scores)
    others = _groups(other_tracks.categories, other_tracks.videos, other_tracks.scores)
    none = np.zeros(0, dtype=np.int64)
    for category, video in sorted({*own, *others}):
        columns, rows = own.get((category, video), none), others.get((category, video), none)
        length = len(frames.places[video])
        predicted = BoxTubes([_tube(*found, i, length, frames) for i in rows])
        true = BoxTubes([_tube(*truth, i, length, frames) for i in columns])
        yield BoxCell(category, video, rows, columns, predicted.overlaps(true, length).tubes)


class Federation:
    """Which categories of a video were annotated at all, and in full.

    Attributes:
        unstated: number of videos without the lists; they count as annotated in full.
    """

    def __init__(self, dataset: VideoDataset) -> None:
        """Read the lists of the videos.

        Args:
            dataset: the ground truth.
        """
        ids = [entry["id"] for entry in dataset.categories]
        self._negative = np.array(
            [
                (video["id"], category)
                for video in dataset.videos
                for category in video.get("neg_category_ids", ids)
            ],
            dtype=np.int64,
        ).reshape(-1, 2)
        self._partial = np.array(
            [
                (video["id"], category)
                for video in dataset.videos
                for category in video.get("not_exhaustive_category_ids", ())
            ],
            dtype=np.int64,
        ).reshape(-1, 2)
        self.unstated = sum("neg_category_ids" not in video for video in dataset.videos)

    def annotated(
        self, places: np.ndarray, videos: np.ndarray, categories: np.ndarray, truth: np.ndarray
    ) -> np.ndarray:
        """Tell which predictions are of a category with ground truth, or known to be absent.

        Args:
            places (ndarray[N]): frame or video of each prediction.
            videos (ndarray[N]): ids of their videos.
            categories (ndarray[N]): ids.
            truth (ndarray[G, 2]): frame or video and category of each ground truth.

        Returns:
            ndarray[N]: bool.
        """
        present = _among(places, categories, truth)
        return present | _among(videos, categories, self._negative)

    def partial(self, videos: np.ndarray, categories: np.ndarray) -> np.ndarray:
        """Tell which predictions are of a category that the video does not annotate in full.

        Args:
            videos (ndarray[N]): ids.
            categories (ndarray[N]): ids.

        Returns:
            ndarray[N]: bool.
        """
        return _among(videos, categories, self._partial)


def _among(places: np.ndarray, categories: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Tell which (place, category) are among the pairs [P, 2]."""
    both = np.concatenate([np.stack([places, categories], axis=1).reshape(-1, 2), pairs])
    _, codes = np.unique(both, axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    return np.isin(codes[: len(places)], codes[len(places) :])


def _groups(
    categories: np.ndarray, places: np.ndarray, scores: np.ndarray
) -> dict[tuple[int, int], np.ndarray]:
    """Return the positions of each category and place by descending score, then as given."""
    order = np.lexsort((-scores, places, categories))
    keys = np.stack([categories[order], places[order]], axis=1)
    starts = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
    parts = np.split(order, starts) if len(order) else []
    return {(int(categories[one[0]]), int(places[one[0]])): one for one in parts}


def _tube(boxes: Boxes, tracks: BoxTracks, track: int, length: int, frames: Frames) -> np.ndarray:
    """Return the boxes [T, 4] of a track, NaN where it has none."""
    tube = np.full((length, 4), np.nan)
    members = tracks.members[track]
    tube[frames.times[boxes.frames[members]]] = boxes.boxes[members]
    return tube


def _mean_score(scores: np.ndarray) -> float:
    # The mean of equal numbers can differ from them in the last digit, which would break ties.
    return float(scores[0] if (scores == scores[0]).all() else scores.mean())
