"""Predicted tracks of a video: what models return, evaluators score and ``tracks.json`` holds.

Dimensions: T frames. Masks are COCO RLEs of the frame size, None where the object has no such
pixel. Boxes are [x, y, w, h] in pixels with w = xmax - xmin + 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from amodal2.structures.rle import RLE, rle_box

MaskTube = list[RLE | None]
"""One entry per frame."""


@dataclass
class Track:
    """One object through a video.

    Args:
        id: unique in the video, from 1.
        category_id: category id of the dataset where it is known, else the contiguous class index.
        score: confidence of the track and its visible masks, in [0, 1].
        visible: T visible masks; None as a whole if this kind of mask was not predicted.
        amodal: T amodal masks; None as a whole if this kind of mask was not predicted.
        amodal_score: confidence with the amodal masks; None takes ``score``.
    """

    id: int
    category_id: int
    score: float
    visible: MaskTube | None
    amodal: MaskTube | None = None
    amodal_score: float | None = None


@dataclass
class VideoPrediction:
    """All tracks of one video.

    Args:
        video_id: id of the video entry.
        height: H of the frames in pixels.
        width: W of the frames in pixels.
        length: T, number of frames.
        tracks: the tracks, in any order.
    """

    video_id: int
    height: int
    width: int
    length: int
    tracks: list[Track] = field(default_factory=list)

    def to_annotations(self) -> list[dict[str, Any]]:
        """Return one JSON-ready prediction record per track.

        Keys: ``id, video_id, category_id, score, segmentations, bboxes`` and, if amodal masks were
        predicted, ``amodal_segmentations, amodal_bboxes`` (and ``amodal_score`` if it was given). A
        kind of mask that was not predicted has no key.

        Raises:
            ValueError: if a track does not have ``length`` masks.
        """
        return [self._record(track) for track in self.tracks]

    @classmethod
    def from_annotations(
        cls, video: dict[str, Any], annotations: Iterable[dict[str, Any]]
    ) -> VideoPrediction:
        """Read records of :meth:`to_annotations` back.

        Args:
            video: entry with ``id, height, width`` and ``length`` or ``file_names``.
            annotations: prediction records; those of other videos are left out. Records without
                ``id`` are numbered by their position in the video, from 1.

        Returns:
            VideoPrediction: the tracks of this video.
        """
        length = video["length"] if "length" in video else len(video["file_names"])
        prediction = cls(video["id"], video["height"], video["width"], length)
        own = [record for record in annotations if record["video_id"] == video["id"]]
        for position, record in enumerate(own, start=1):
            prediction.tracks.append(
                Track(
                    id=record.get("id", position),
                    category_id=record["category_id"],
                    score=record["score"],
                    visible=record.get("segmentations"),
                    amodal=record.get("amodal_segmentations"),
                    amodal_score=record.get("amodal_score"),
                )
            )
        return prediction

    def _record(self, track: Track) -> dict[str, Any]:
        record: dict[str, Any] = {
            "id": track.id,
            "video_id": self.video_id,
            "category_id": track.category_id,
            "score": track.score,
        }
        if track.visible is not None:
            record["segmentations"] = self._checked(track, track.visible)
            record["bboxes"] = boxes_of(track.visible)
        if track.amodal is not None:
            record["amodal_segmentations"] = self._checked(track, track.amodal)
            record["amodal_bboxes"] = boxes_of(track.amodal)
        if track.amodal_score is not None:
            record["amodal_score"] = track.amodal_score
        return record

    def _checked(self, track: Track, tube: MaskTube) -> MaskTube:
        if len(tube) != self.length:
            raise ValueError(
                f"VideoPrediction.to_annotations: expected {self.length} masks per track in video "
                f"{self.video_id}, got {len(tube)} in track {track.id}"
            )
        return tube


def boxes_of(tube: MaskTube) -> list[list[int] | None]:
    """Return the tight box of every mask of a tube.

    Args:
        tube: T masks or None.

    Returns:
        list: T boxes [x, y, w, h] in pixels; None where the mask is None or empty.
    """
    boxes: list[list[int] | None] = []
    for rle in tube:
        box = None if rle is None else list(rle_box(rle))
        boxes.append(box if box and box[2] > 0 else None)
    return boxes
