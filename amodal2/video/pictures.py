"""The second pass over a video: overlay, side-by-side video and mask images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from amodal2.structures.frame_object import FrameObject
from amodal2.structures.rle import decode_rle
from amodal2.utils.errors import VideoError
from amodal2.utils.files import atomic_write
from amodal2.utils.frame_source import FrameSource
from amodal2.utils.logging import get_logger
from amodal2.video.tracks import Tracks
from amodal2.video.writer import VideoWriter
from amodal2.visualization.overlay import DEFAULT_STYLE, draw_overlay
from amodal2.visualization.panels import panel_width, side_by_side

PICTURES = frozenset({"overlay", "sidebyside", "masks"})
"""What :func:`write_pictures` can write."""

_LATEST_START = 10.0  # seconds; a later first time stamp is the clock of a recorder, not a pause

logger = get_logger(__name__)


def write_pictures(
    source: FrameSource,
    tracks: Tracks,
    folder: str | Path,
    what: Collection[str],
    category_names: Mapping[int, str],
    on_frame: Callable[[], object] | None = None,
) -> None:
    """Read a video again and write what can be looked at.

    ``overlay.mp4``: the tracks drawn on the video. ``sidebyside.mp4``: video and overlay in a row.
    ``masks/id_NNN/{visible,amodal}/FFFFFF.png``: black and white, one file per track and frame
    that has a mask. The videos keep the time stamps of the source.

    Args:
        source (FrameSource): the video of the tracks.
        tracks (Tracks): its tracks.
        folder (str | Path): where to write.
        what (Collection[str]): a part of ``PICTURES``.
        category_names (Mapping[int, str]): name of each category id.
        on_frame (Callable | None): called after every frame, to show progress.

    Raises:
        VideoError: if the video cannot be read or written.
    """
    folder = Path(folder)
    style = replace(DEFAULT_STYLE, whole=not tracks.has_visible)
    length = 0
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(_writer(source, folder / f"{name}.mp4", columns))
            for name, columns in (("overlay", 1), ("sidebyside", 2))
            if name in what
        }
        origin: float | None = None
        for (frame, seconds), objects in zip(source, tracks.frames(), strict=False):
            if origin is None:
                origin = 0.0 if 0 <= seconds <= _LATEST_START else seconds
            original = frame.copy() if "sidebyside" in writers else frame
            if writers:
                draw_overlay(frame, objects, category_names, style)
            if "overlay" in writers:
                writers["overlay"].write(frame, seconds - origin)
            if "sidebyside" in writers:
                panel = side_by_side([original, frame], ["input", _title(tracks)])
                writers["sidebyside"].write(panel, seconds - origin)
            if "masks" in what:
                _write_masks(folder / "masks", length, objects)
            length += 1
            if on_frame is not None:
                on_frame()
    if length < tracks.length:
        logger.warning(
            "%s: the second reading ended after %d of %d frames", source.name, length, tracks.length
        )


def _title(tracks: Tracks) -> str:
    if not tracks.has_visible:
        return "whole objects"
    return "visible and hidden parts" if tracks.has_amodal else "visible parts"


def _writer(source: FrameSource, path: Path, columns: int) -> VideoWriter:
    return VideoWriter(
        path,
        source.height,
        panel_width(source.width, columns),
        fps=source.fps,
        time_base=source.time_base,
        pixel_aspect=source.pixel_aspect,
    )


def _write_masks(folder: Path, frame: int, objects: list[FrameObject]) -> None:
    for item in objects:
        for kind, rle in (("visible", item.visible), ("amodal", item.amodal)):
            if rle is not None:
                path = folder / f"id_{item.id:03d}" / kind / f"{frame:06d}.png"
                done, data = cv2.imencode(".png", decode_rle(rle).astype(np.uint8) * 255)
                if not done:
                    raise VideoError(f"write_pictures: expected to encode {path}, got a failure")
                with atomic_write(path) as temporary:
                    temporary.write_bytes(data.tobytes())
