"""Tracks whose masks are in memory, in the form of those in a temporary file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from amodal2.structures.frame_object import FrameObject
from amodal2.structures.rle import RLE
from amodal2.structures.slot_lives import Kind
from amodal2.structures.track import MaskTube, VideoPrediction
from amodal2.structures.tube_track import TubeTrack
from amodal2.video.tracks import Tracks


class LoadedTubes:
    """The masks of a prediction, read as :class:`TubeSpool` lets read its own.

    Attributes:
        output_size (tuple[int, int]): height and width of the masks in pixels.
        length (int): T, number of frames.
        has_visible (bool): there are visible masks.
        has_amodal (bool): there are amodal masks.
    """

    def __init__(self, prediction: VideoPrediction) -> None:
        """Take over a prediction.

        Args:
            prediction (VideoPrediction): its tracks have all the same kinds of masks.
        """
        self.output_size = (prediction.height, prediction.width)
        self.length = prediction.length
        self.has_visible = all(track.visible is not None for track in prediction.tracks)
        self.has_amodal = all(track.amodal is not None for track in prediction.tracks)
        self._tracks = prediction.tracks

    def iter_tube(self, track: TubeTrack, kind: Kind) -> Iterator[RLE | None]:
        """Yield one track's masks of one kind, frame by frame."""
        yield from self._tube(track, kind)

    def iter_frames(self, tracks: Sequence[TubeTrack]) -> Iterator[list[FrameObject]]:
        """Yield the tracks that have a mask in each frame."""
        for t in range(self.length):
            found = [
                (track, self._at(track, "visible", t), self._at(track, "amodal", t))
                for track in tracks
            ]
            yield [
                FrameObject(track.id, track.category_id, track.score, visible, amodal)
                for track, visible, amodal in found
                if visible is not None or amodal is not None
            ]

    def close(self) -> None:
        """Do nothing: there is no file."""

    def _tube(self, track: TubeTrack, kind: Kind) -> MaskTube:
        loaded = self._tracks[track.slot]
        return (loaded.visible if kind == "visible" else loaded.amodal) or [None] * self.length

    def _at(self, track: TubeTrack, kind: Kind, t: int) -> RLE | None:
        return self._tube(track, kind)[t]


def loaded_tracks(prediction: VideoPrediction) -> Tracks:
    """Return a prediction in the form that is drawn and written.

    Args:
        prediction (VideoPrediction): its tracks have all the same kinds of masks.

    Returns:
        Tracks: in the order of the prediction.
    """
    chosen = [
        TubeTrack(track.id, slot, track.category_id, track.score, track.amodal_score)
        for slot, track in enumerate(prediction.tracks)
    ]
    return Tracks(LoadedTubes(prediction), chosen)
