"""Moving and removing objects of a video: what they hid appears.

Behind an object that leaves its place lie the completed parts of other objects, and the background.
The background is what was seen there in other frames (the median over time, for cameras that stand
still), and is interpolated from its surroundings where nothing ever was.

Letters: N objects, T frames, H W frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal2.structures.rle import decode_rle
from amodal2.structures.track import Track
from amodal2.utils.frame_source import Frame, FrameSource

Mask = NDArray[np.bool_]
RGBA = NDArray[np.uint8]

_SAMPLES = 32  # frames that the background is the median of
_RADIUS = 5  # pixels, of the interpolation
_SEAM = np.ones((5, 5), np.uint8)  # blurred edges of an object that leaves its place go with it

ReadClip = Callable[[int, int], "RGBA | None"]
"""Takes track id and frame, gives uint8 RGBA [H, W, 4] or None."""


@dataclass(frozen=True)
class Edits:
    """What happens to the objects.

    Attributes:
        removed (frozenset[int]): track ids.
        moved (Mapping[int, tuple[int, int]]): track id to pixels right and down.
    """

    removed: frozenset[int]
    moved: Mapping[int, tuple[int, int]]

    def check(self, tracks: Sequence[Track]) -> None:
        """Check that the objects exist.

        Args:
            tracks: of the video.

        Raises:
            ValueError: if one does not, is named twice, or nothing is to be done.
        """
        named = self.removed | set(self.moved)
        known = {track.id for track in tracks}
        if not named or not named <= known or self.removed & set(self.moved):
            raise ValueError(
                f"Edits.check: expected objects of {sorted(known)}, each moved or removed, got "
                f"{sorted(self.removed)} removed and {sorted(self.moved)} moved"
            )


def rearrange(
    source: FrameSource, tracks: Sequence[Track], read_clip: ReadClip, edits: Edits
) -> Iterator[tuple[Frame, float]]:
    """Change a video.

    Args:
        source: the video, read twice.
        tracks: with visible and amodal masks.
        read_clip: gives the completed objects.
        edits: what to do; it is checked.

    Yields:
        tuple: uint8 RGB frame [H, W, 3] and its time stamp in seconds.

    Raises:
        ValueError: if an object does not exist or has no masks of both kinds.
        VideoError: if a frame cannot be read.
    """
    edits.check(tracks)
    if any(track.visible is None or track.amodal is None for track in tracks):
        raise ValueError("rearrange: expected visible and amodal masks of every object, got less")
    background = find_background(source, tracks)
    for t, (image, seconds) in enumerate(source):
        size = image.shape[:2]
        masks = {
            track.id: (_decode(track.visible, t, size), _decode(track.amodal, t, size))
            for track in tracks
        }
        clips = {track.id: read_clip(track.id, t) for track in tracks}
        yield rearrange_frame(image, background, masks, clips, edits), seconds


def rearrange_frame(
    image: Frame,
    background: Frame,
    masks: Mapping[int, tuple[Mask, Mask]],
    clips: Mapping[int, RGBA | None],
    edits: Edits,
) -> Frame:
    """Change one frame; pixels that nothing left or came to stay as they are.

    Args:
        image (ndarray[H, W, 3]): uint8 RGB.
        background (ndarray[H, W, 3]): uint8 RGB.
        masks: by track id, visible and amodal mask, bool [H, W].
        clips: by track id, uint8 RGBA [H, W, 4], or None where there is none.
        edits: what to do.

    Returns:
        ndarray[H, W, 3]: uint8 RGB.
    """
    left = np.zeros(image.shape[:2], np.uint8)
    for number in edits.removed | set(edits.moved):
        left |= masks[number][0]
    staying = np.zeros(image.shape[:2], bool)
    for number in set(masks) - edits.removed - set(edits.moved):
        staying |= masks[number][0]
    free = cv2.dilate(left, _SEAM).astype(bool) & ~staying
    result = np.where(free[..., None], background, image)
    for number in back_to_front(masks):
        clip = clips.get(number)
        if clip is None or number in edits.removed:
            continue
        if number in edits.moved:
            clip = shifted(clip, edits.moved[number])
            place = clip[..., 3] > 0
            for nearer in _in_front(number, masks, edits):
                place &= ~masks[nearer][0]
        else:
            place = free & (clip[..., 3] > 0)
        result[place] = clip[place][:, :3]
    return result


def back_to_front(masks: Mapping[int, tuple[Mask, Mask]]) -> list[int]:
    """Order the objects of a frame by who hides whom.

    Args:
        masks: by track id, visible and amodal mask.

    Returns:
        list[int]: track ids. An object comes after all that it hides, as far as that is no circle.
    """
    hides = {n: {m for m in masks if m != n and _hides(masks[n], masks[m])} for n in masks}
    order: list[int] = []
    rest = set(masks)
    while rest:
        free = [n for n in sorted(rest) if not hides[n] & rest]
        chosen = free[0] if free else min(rest, key=lambda n: (len(hides[n] & rest), n))
        order.append(chosen)
        rest.remove(chosen)
    return order


def _hides(front: tuple[Mask, Mask], back: tuple[Mask, Mask]) -> bool:
    """Whether more of ``back`` lies hidden behind ``front`` than the other way round."""
    hidden = np.count_nonzero(front[0] & back[1] & ~back[0])
    return bool(hidden > np.count_nonzero(back[0] & front[1] & ~front[0]))


def _in_front(number: int, masks: Mapping[int, tuple[Mask, Mask]], edits: Edits) -> list[int]:
    """Return the objects that stay where they are and hide this one."""
    staying = set(masks) - edits.removed - set(edits.moved)
    return [n for n in staying if _hides(masks[n], masks[number])]


def shifted(clip: RGBA, move: tuple[int, int]) -> RGBA:
    """Move an image; what leaves it is lost, what enters is transparent.

    Args:
        clip (ndarray[H, W, 4]): uint8.
        move: pixels right and down.

    Returns:
        ndarray[H, W, 4]: uint8.
    """
    (height, width), (right, down) = clip.shape[:2], move
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float64)
    return cv2.warpAffine(clip, matrix, (width, height), flags=cv2.INTER_NEAREST)


def find_background(source: FrameSource, tracks: Sequence[Track]) -> Frame:
    """Find what is behind all objects.

    Args:
        source: the video, of a camera that stands still.
        tracks: with visible masks.

    Returns:
        ndarray[H, W, 3]: uint8 RGB.
    """
    length = len(tracks[0].visible or ())
    chosen = set(np.linspace(0, length - 1, min(length, _SAMPLES)).round().astype(int).tolist())
    frames, covered = [], []
    for t, (image, _) in enumerate(source):
        if t in chosen:
            frames.append(image)
            size = image.shape[:2]
            mask = np.any([_decode(track.visible, t, size) for track in tracks], axis=0)
            covered.append(cv2.dilate(mask.astype(np.uint8), _SEAM).astype(bool))
    hidden = np.stack(covered)
    known = np.ma.MaskedArray(np.stack(frames), np.repeat(hidden[..., None], 3, axis=3))
    median = np.ma.median(known, axis=0).filled(0).round().astype(np.uint8)
    never = hidden.all(axis=0)
    return cv2.inpaint(median, never.astype(np.uint8), _RADIUS, cv2.INPAINT_TELEA)


def _decode(tube: Sequence | None, t: int, size: tuple[int, ...]) -> Mask:
    rle = (tube or ())[t]
    return np.zeros(size, bool) if rle is None else decode_rle(rle)
