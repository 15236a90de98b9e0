"""What can be looked at: overlay, side-by-side video and mask images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from amodal2.structures.frame_object import FrameObject, TrackedFrame
from amodal2.structures.rle import decode_rle
from amodal2.structures.tube_track import MaskKinds
from amodal2.utils.errors import VideoError
from amodal2.utils.files import atomic_write
from amodal2.utils.frame_source import Frame, FrameSource
from amodal2.utils.live_stream import LiveStream
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
    kinds, length = MaskKinds(tracks.has_visible, tracks.has_amodal), 0
    with PictureWriter(source, folder, what, category_names) as writer:
        for (frame, seconds), objects in zip(source, tracks.frames(), strict=False):
            writer.write(frame, seconds, TrackedFrame(length, objects), kinds)
            length += 1
            if on_frame is not None:
                on_frame()
    if length < tracks.length:
        logger.warning(
            "%s: the second reading ended after %d of %d frames", source.name, length, tracks.length
        )


class PictureWriter(AbstractContextManager["PictureWriter"]):
    """Draws and writes frame after frame what :func:`write_pictures` says."""

    def __init__(
        self,
        source: FrameSource | LiveStream,
        folder: str | Path,
        what: Collection[str],
        category_names: Mapping[int, str],
    ) -> None:
        """Store the settings; files are opened on entering the context.

        Args:
            source (FrameSource | LiveStream): tells size, rate and ticks of the frames.
            folder (str | Path): where to write.
            what (Collection[str]): a part of ``PICTURES``.
            category_names (Mapping[int, str]): name of each category id.
        """
        self._source = source
        self._folder = Path(folder)
        self._what = frozenset(what)
        self._category_names = category_names
        self._origin: float | None = None
        self._writers: dict[str, VideoWriter] = {}
        self._stack = ExitStack()

    def __enter__(self) -> PictureWriter:
        """Open the videos."""
        with ExitStack() as stack:
            for name, columns in (("overlay", 1), ("sidebyside", 2)):
                if name in self._what:
                    writer = _writer(self._source, self._folder / f"{name}.mp4", columns)
                    self._writers[name] = stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the videos, or remove them after an error.

        Raises:
            VideoError: if no frame was written or the encoder fails.
        """
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: Frame, seconds: float, tracked: TrackedFrame, kinds: MaskKinds) -> None:
        """Write one frame.

        Args:
            frame (ndarray[H, W, 3]): RGB uint8; it is drawn on and must not be changed afterwards.
            seconds (float): time stamp, not before that of the frame before.
            tracked (TrackedFrame): the objects in it.
            kinds (MaskKinds): what is predicted.

        Raises:
            VideoError: if it cannot be written.
        """
        if self._origin is None:
            self._origin = 0.0 if 0 <= seconds <= _LATEST_START else seconds
        original = frame.copy() if "sidebyside" in self._writers else frame
        if self._writers:
            style = replace(DEFAULT_STYLE, whole=not kinds.visible)
            draw_overlay(frame, tracked.objects, self._category_names, style)
        if "overlay" in self._writers:
            self._writers["overlay"].write(frame, seconds - self._origin)
        if "sidebyside" in self._writers:
            panel = side_by_side([original, frame], ["input", _title(kinds)])
            self._writers["sidebyside"].write(panel, seconds - self._origin)
        if "masks" in self._what:
            _write_masks(self._folder / "masks", tracked.index, tracked.objects)


def _title(kinds: MaskKinds) -> str:
    if not kinds.visible:
        return "whole objects"
    return "visible and hidden parts" if kinds.amodal else "visible parts"


def _writer(source: FrameSource | LiveStream, path: Path, columns: int) -> VideoWriter:
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
