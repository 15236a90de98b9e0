"""Predicted and true tracks of one kind, sorted into cells of one video and one category.

Every metric works on the same cells. Their overlaps are computed once and thrown away when all
metrics have taken what they need, since those of all videos together need not fit into memory.

Dimensions: D predictions and G ground truths of a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from amodal2.evaluation.overlaps import BoxTubes, Overlaps, Tubes
from amodal2.evaluation.predictions import Record
from amodal2.structures.video_json import VideoDataset

Tracks = TypeVar("Tracks", Tubes, BoxTubes)
Key = int | None
"""Category id; None where all classes count as one."""


@dataclass
class VideoCell:
    """Tracks of one video and one category, and what they share.

    Args:
        key: the category.
        rows (ndarray[D]): positions of the predictions by descending score; equal scores keep the
            order of the file.
        columns (ndarray[G]): positions of the true tracks in the order of the file.
        overlaps: of these predictions and true tracks.
    """

    key: Key
    rows: np.ndarray
    columns: np.ndarray
    overlaps: Overlaps


@dataclass
class TrackPairing(Generic[Tracks]):
    """All tracks that one row of the report compares.

    Args:
        dataset: videos and categories.
        records: the predictions, with their masks or boxes in ``predicted``.
        predicted: N tracks.
        scores (ndarray[N]): of the predictions.
        tracks: the ground truth, with its masks or boxes in ``truth``.
        truth: M tracks.
        class_agnostic: all classes count as one.
    """

    dataset: VideoDataset
    records: list[Record]
    predicted: Tracks
    scores: np.ndarray
    tracks: list[Record]
    truth: Tracks
    class_agnostic: bool = False

    def keys(self) -> list[Key]:
        """Return the categories in the order of the dataset, or None alone."""
        return [None] if self.class_agnostic else [one["id"] for one in self.dataset.categories]

    def names(self) -> list[str]:
        """Return the names of the categories; none where all classes count as one."""
        return [] if self.class_agnostic else [one["name"] for one in self.dataset.categories]

    def cells(self, limit: int | None = None) -> Iterator[VideoCell]:
        """Go through the cells by category and then by video id; empty ones are left out.

        Args:
            limit: compare only so many predictions of a cell, those of the highest scores.

        Yields:
            VideoCell: predictions and ground truth of one video and category.
        """
        own, others = self._group(self.tracks), self._group(self.records)
        videos = sorted(self.dataset.videos, key=lambda video: video["id"])
        for key in self.keys():
            for video in videos:
                columns = own.get((key, video["id"]), [])
                rows = np.array(others.get((key, video["id"]), []), dtype=np.int64)
                if not columns and not len(rows):
                    continue
                rows = rows[np.argsort(-self.scores[rows], kind="stable")][:limit]
                predicted, truth = self.predicted.select(rows.tolist()), self.truth.select(columns)
                overlaps = predicted.overlaps(truth, video["length"])
                yield VideoCell(key, rows, np.array(columns, dtype=np.int64), overlaps)

    def video_of(self, cell: VideoCell) -> int:
        """Return the id of a cell's video.

        Args:
            cell: of this pairing.
        """
        one = self.tracks[cell.columns[0]] if len(cell.columns) else self.records[cell.rows[0]]
        video: int = one["video_id"]
        return video

    def canonical_order(self, rows: np.ndarray) -> list[int]:
        """Sort predictions in a way that does not depend on the order of the file.

        By ``track_id`` or ``id`` where all have one of their own, else by descending score and, at
        equal scores, by what they contain.

        Args:
            rows (ndarray[D]): positions of predictions.

        Returns:
            list[int]: the order of ``rows``.
        """
        ids = [self.records[i].get("track_id", self.records[i].get("id")) for i in rows]
        order = list(range(len(rows)))
        if all(type(one) is int for one in ids) and len(set(ids)) == len(ids):
            return sorted(order, key=ids.__getitem__)
        scores = self.scores[rows].tolist()
        if len(set(scores)) == len(scores):
            return sorted(order, key=lambda i: -scores[i])
        return sorted(order, key=lambda i: (-scores[i], self.predicted.content(int(rows[i]))))

    def _group(self, entries: list[Record]) -> dict[tuple[Key, int], list[int]]:
        """Return the positions of the entries of each cell, by category and then as in the file."""
        groups: dict[tuple[Key, int], list[int]] = {}
        for i in sorted(range(len(entries)), key=lambda i: entries[i]["category_id"]):
            key = None if self.class_agnostic else entries[i]["category_id"]
            groups.setdefault((key, entries[i]["video_id"]), []).append(i)
        return groups
