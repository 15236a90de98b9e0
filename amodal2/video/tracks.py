"""The tracks of one video, with their masks in a temporary file, and ``tracks.json``."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from amodal2.structures.frame_object import FrameObject
from amodal2.structures.rle import RLE, rle_box
from amodal2.structures.slot_lives import Kind
from amodal2.structures.track import Track, VideoPrediction
from amodal2.structures.tube_track import TubeTrack
from amodal2.utils.closing import Closing
from amodal2.utils.files import atomic_write

_KEYS: tuple[tuple[Kind, str, str], ...] = (
    ("visible", "segmentations", "bboxes"),
    ("amodal", "amodal_segmentations", "amodal_bboxes"),
)


class TubeStore(Protocol):
    """What holds the masks of tracks, as ``TubeSpool`` of ``tube_spool.py`` does."""

    output_size: tuple[int, int]
    has_visible: bool | None
    has_amodal: bool | None

    @property
    def length(self) -> int:
        """Number of frames."""

    def iter_frames(self, tracks: Sequence[TubeTrack]) -> Iterator[list[FrameObject]]:
        """Yield the masks of tracks frame by frame."""

    def iter_tube(self, track: TubeTrack, kind: Kind) -> Iterator[RLE | None]:
        """Yield one track's masks of one kind."""

    def close(self) -> None:
        """Give the masks up."""


class Tracks(Sequence[TubeTrack], Closing):
    """Chosen tracks, in the order of falling scores; use as a context manager or close.

    Attributes:
        height (int): H of the frames in pixels.
        width (int): W of the frames in pixels.
        length (int): T, frames of the video.
        has_visible (bool): visible masks were predicted.
        has_amodal (bool): amodal masks were predicted.
    """

    def __init__(self, spool: TubeStore, chosen: Sequence[TubeTrack]) -> None:
        """Take over what holds the masks.

        Args:
            spool (TubeStore): a ``TubeSpool``, or masks in memory.
            chosen (Sequence[TubeTrack]): the tracks, e.g. what the spool's ``select`` returned.
        """
        self._spool = spool
        self._chosen = list(chosen)
        self.height, self.width = spool.output_size
        self.length = spool.length
        self.has_visible = bool(spool.has_visible)
        self.has_amodal = bool(spool.has_amodal)

    def __len__(self) -> int:
        """Return the number of tracks."""
        return len(self._chosen)

    def __getitem__(self, index: Any) -> Any:
        """Return one track or a list of them, without masks."""
        return self._chosen[index]

    def frames(self) -> Iterator[list[FrameObject]]:
        """Yield the masks frame by frame.

        Yields:
            list[FrameObject]: the tracks that have a mask in the frame.
        """
        return self._spool.iter_frames(self._chosen)

    def masks(self, track: TubeTrack, kind: Kind) -> Iterator[RLE | None]:
        """Yield one track's masks of one kind.

        Args:
            track (TubeTrack): one of the tracks.
            kind (str): "visible" or "amodal".

        Yields:
            RLE | None: one per frame; None where the mask is empty.
        """
        return self._spool.iter_tube(track, kind)

    def to_prediction(self, video_id: int) -> VideoPrediction:
        """Load all masks into memory.

        Args:
            video_id (int): id of the video entry.

        Returns:
            VideoPrediction: all tracks.
        """
        loaded = [
            Track(
                id=track.id,
                category_id=track.category_id,
                score=track.score,
                visible=list(self.masks(track, "visible")) if self.has_visible else None,
                amodal=list(self.masks(track, "amodal")) if self.has_amodal else None,
                amodal_score=track.amodal_score,
            )
            for track in self._chosen
        ]
        return VideoPrediction(video_id, self.height, self.width, self.length, loaded)

    def write_json(
        self,
        path: str | Path,
        *,
        file_name: str,
        category_names: Mapping[int, str],
        fps: float | None = None,
    ) -> None:
        """Write ``{"videos", "categories", "annotations"}``, mask after mask.

        The annotations are those of ``VideoPrediction.to_annotations``. The file appears when it is
        complete.

        Args:
            path (str | Path): file to write.
            file_name (str): name of the video.
            category_names (Mapping[int, str]): name of each category id.
            fps (float | None): frames per second of the video, where known.
        """
        video = {
            "id": 1,
            "width": self.width,
            "height": self.height,
            "length": self.length,
            "file_name": file_name,
        }
        if fps is not None:
            video["fps"] = fps
        categories = [{"id": key, "name": name} for key, name in sorted(category_names.items())]
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(f'{{"videos": [{json.dumps(video)}],\n')
            file.write(f'"categories": {json.dumps(categories)},\n"annotations": [')
            for index, track in enumerate(self._chosen):
                file.write(",\n" if index else "\n")
                self._write_track(file, track)
            file.write("]}\n")

    def close(self) -> None:
        """Delete the temporary file; the masks are gone."""
        self._spool.close()

    def _write_track(self, file: TextIO, track: TubeTrack) -> None:
        head = {
            "id": track.id,
            "video_id": 1,
            "category_id": track.category_id,
            "score": track.score,
        }
        if track.amodal_score is not None:
            head["amodal_score"] = track.amodal_score
        file.write(json.dumps(head)[:-1])
        predicted = {"visible": self.has_visible, "amodal": self.has_amodal}
        for kind, mask_key, box_key in _KEYS:
            if not predicted[kind]:
                continue
            boxes = array("i")
            file.write(f', "{mask_key}": [')
            for frame, rle in enumerate(self.masks(track, kind)):
                boxes.extend((0, 0, 0, 0) if rle is None else rle_box(rle))
                file.write(f"{', ' if frame else ''}{json.dumps(rle)}")
            file.write(f'], "{box_key}": [')
            for frame in range(self.length):
                box = boxes[4 * frame : 4 * frame + 4].tolist()
                file.write(f"{', ' if frame else ''}{json.dumps(box if box[2] else None)}")
            file.write("]")
        file.write("}")
