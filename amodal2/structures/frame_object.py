"""One object in one frame: what the tracks hand to the drawing."""

from __future__ import annotations

from dataclasses import dataclass

from amodal2.structures.rle import RLE


@dataclass
class FrameObject:
    """The masks of one track in one frame.

    Attributes:
        id (int): track id, unique in the video.
        category_id (int): category of the track.
        score (float): confidence of the track, in [0, 1].
        visible (RLE | None): visible part; None if nothing of it is visible here, or not predicted.
        amodal (RLE | None): whole object; None if it is absent here or not predicted.
    """

    id: int
    category_id: int
    score: float
    visible: RLE | None
    amodal: RLE | None


@dataclass
class TrackedFrame:
    """What a stream hands out for one frame.

    Attributes:
        index (int): number of the frame in the video, from 0.
        objects (list[FrameObject]): the tracks that have a mask in it, with the scores of the
            moment, highest first.
    """

    index: int
    objects: list[FrameObject]
