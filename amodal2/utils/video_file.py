"""Frames of one video file through PyAV: rotation, variable frame rate, cut off tails, seeking."""

from __future__ import annotations

import contextlib
import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from amodal2.utils.errors import VideoError
from amodal2.utils.frame_source import Frame, FrameSource
from amodal2.utils.logging import get_logger, warn_once

_MISSING_SECONDS = 1.0  # a file that ends that much too early is worth a warning

logger = get_logger(__name__)


class VideoFile(FrameSource):
    """A video file. Attributes as in :class:`~amodal2.utils.frame_source.FrameSource`.

    Sequential passes and random access use decoders of their own, so they do not disturb each
    other. Time stamps are those of the file, in seconds.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the file and decode its first frame, which tells the displayed size.

        Args:
            path (str | Path): a file that PyAV can read.

        Raises:
            VideoError: if it holds no decodable video.
        """
        self.name = str(path)
        self._cursor: _Cursor | None = None
        self._stamps: list[int] | None = None
        self._keys: list[int] = []
        with _open(self.name) as container:
            stream = _stream(container)
            first = next(decode_frames(container, self.name), None)
            if first is None:
                raise VideoError(f"VideoFile: expected a video, got no decodable frame in {path}")
            self._coded_size = (first.width, first.height)
            self._orientation = _orientation(first)
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.fps = float(rate)
            self.time_base = stream.time_base or 1 / rate
            self._stamped = _has_stamps(container)
            start, seconds = _claimed_span(container, stream)
            self._end = None if seconds is None else float(start + seconds)
            estimate = None if seconds is None else max(1, round(seconds * rate))
            self.length = stream.frames or estimate
            aspect = stream.codec_context.sample_aspect_ratio or Fraction(1)
        swap = self._orientation[0]
        self.width, self.height = self._coded_size[::-1] if swap else self._coded_size
        self.pixel_aspect = 1 / aspect if swap else aspect

    def __iter__(self) -> Iterator[tuple[Frame, float]]:
        """Yield (frame, time stamp in seconds), see :class:`FrameSource`.

        The end of a cut off file ends the iteration with a logged warning. A frame without a
        time stamp, or with one that does not increase, is put 1 / fps after the one before. Files
        without presentation time stamps (AVI, raw streams) run at their constant rate from 0.
        """
        step = max(1, round(1 / self.fps / self.time_base))
        last: int | None = None
        with _open(self.name, threads=True) as container:
            for raw in decode_frames(container, self.name):
                stamp = raw.pts if self._stamped else None
                if stamp is None or (last is not None and stamp <= last):
                    stamp = 0 if last is None else last + step
                last = stamp
                yield self._convert(raw), float(stamp * self.time_base)
        end = 0.0 if last is None else float(last * self.time_base)
        if self._end is not None and end < self._end - _MISSING_SECONDS:
            warn_once(
                logger,
                f"{self.name}: reading ended at {end:.1f} s of {self._end:.1f} s, "
                "the rest of the file is missing or damaged",
            )

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Seek and decode, see :meth:`FrameSource.read`.

        The first call lists the file's packets (without decoding them) for their time stamps.
        """
        self._index()
        total = len(self._stamps or ())
        for index in indices:
            if not 0 <= index < total:
                raise IndexError(
                    f"VideoFile.read: expected indices in [0, {total}), got {index} ({self.name})"
                )
        frames = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        previous = -1
        for place in np.argsort(indices, kind="stable").tolist():
            index = indices[place]
            if previous >= 0 and indices[previous] == index:
                frames[place] = frames[previous]
            else:
                frames[place] = self._convert(self._fetch(index))
            previous = place
        return frames

    def close(self) -> None:
        """Close the decoder that random access holds open."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

    def _index(self) -> None:
        """List presentation time stamps (ticks) of all frames and the indices of the key frames."""
        if self._stamps is not None:
            return
        found: list[tuple[int, bool]] = []
        with _open(self.name) as container:
            for packet in _packets(container, self.name):
                if packet.size and not packet.is_discard:
                    stamp = packet.pts if self._stamped else None
                    found.append((len(found) if stamp is None else stamp, packet.is_keyframe))
        found.sort()
        self._stamps = [stamp for stamp, _ in found]
        if self._stamped:
            self._keys = [index for index, (_, key) in enumerate(found) if key]

    def _fetch(self, index: int) -> av.VideoFrame:
        """Decode frame ``index``, going on from the last one where that is the shorter way."""
        stamps = self._stamps or []
        key = bisect_right(self._keys, index) - 1
        start = self._keys[key] if key >= 0 else 0
        if self._cursor is None or not start <= self._cursor.next_index <= index:
            self.close()
            self._cursor = _Cursor(self.name, stamps, start, self._stamped)
        frame = self._cursor.advance(index)
        if frame is None and start > 0:  # the seek went too far: decode from the beginning
            self.close()
            self._cursor = _Cursor(self.name, stamps, 0, self._stamped)
            frame = self._cursor.advance(index)
        if frame is None:
            raise VideoError(f"VideoFile.read: expected a decodable frame {index} in {self.name}")
        return frame

    def _convert(self, raw: av.VideoFrame) -> Frame:
        """Turn a decoded picture into an upright RGB array of the size of the first frame."""
        width, height = self._coded_size
        same = (raw.width, raw.height) == self._coded_size
        rgb = raw if same else raw.reformat(width=width, height=height, format="rgb24")
        frame = rgb.to_ndarray(format="rgb24")
        swap, flip_x, flip_y = self._orientation
        if swap:
            frame = frame.transpose(1, 0, 2)
        if flip_x:
            frame = frame[:, ::-1]
        if flip_y:
            frame = frame[::-1]
        return np.ascontiguousarray(frame)


class _Cursor:
    """A decoder that stands at some frame and can only go forward."""

    def __init__(self, name: str, stamps: list[int], start: int, stamped: bool) -> None:
        self._container = _open(name)
        self._stamps = stamps
        self._stamped = stamped
        self.next_index = start
        if start > 0:
            try:
                self._container.seek(stamps[start], stream=_stream(self._container))
            except av.error.FFmpegError:  # not seekable: decode from the beginning
                self.next_index = 0
        self._frames = decode_frames(self._container, name)

    def advance(self, index: int) -> av.VideoFrame | None:
        """Return frame ``index``, or None if the decoder is past it or at the end."""
        for frame in self._frames:
            at = self.next_index
            if self._stamped and frame.pts is not None:
                at = bisect_left(self._stamps, frame.pts)
            self.next_index = at + 1
            if at == index:
                return frame
            if at > index:
                return None
        return None

    def close(self) -> None:
        self._container.close()


def _open(name: str, threads: bool = False) -> av.container.InputContainer:
    try:
        # The whole path, since FFmpeg takes what precedes a colon for a protocol.
        container = av.open(os.path.abspath(name), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as e:
        raise VideoError(f"VideoFile: expected a readable video, got {name}: {_reason(e)}") from e
    if not container.streams.video:
        container.close()
        raise VideoError(f"VideoFile: expected a file with a video stream, got {name}")
    if threads:
        _stream(container).thread_type = "AUTO"
    return container


def _stream(container: av.container.InputContainer) -> av.VideoStream:
    """Return the main video stream, which is not the cover picture."""
    best = container.streams.best("video")
    return best if isinstance(best, av.VideoStream) else container.streams.video[0]


def _has_stamps(container: av.container.InputContainer) -> bool:
    """Tell whether the format stores presentation times (AVI has decoding order only)."""
    no_timestamps: Any = av.format.Flags.no_timestamps.value
    bare = container.format.flags & no_timestamps
    return container.format.name != "avi" and not bare


def _packets(container: av.container.InputContainer, name: str) -> Iterator[av.Packet]:
    """Yield the video packets that are whole; a file that ends too early ends with a warning."""
    try:
        for packet in container.demux(_stream(container)):
            if packet.is_corrupt:
                warn_once(logger, f"{name}: a damaged packet ({_time(packet)} s) was left out")
            else:
                yield packet
    except av.error.FFmpegError as e:
        warn_once(logger, f"{name}: reading stopped at damaged data ({_reason(e)})")


def decode_frames(container: av.container.InputContainer, name: str) -> Iterator[av.VideoFrame]:
    """Decode the main video stream; what is damaged is left out with a logged warning.

    Args:
        container (InputContainer): at the place to begin with.
        name (str): for the messages.

    Yields:
        VideoFrame: the frames that can be decoded, in the order of display.
    """
    failures = 0
    for packet in _packets(container, name):
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            failures += 1
    # Where reading was cut short, the decoder still holds frames that waited for later ones.
    with contextlib.suppress(av.error.FFmpegError):
        yield from _stream(container).decode(None)
    if failures:
        warn_once(logger, f"{name}: {failures} damaged packet(s) could not be decoded")


def _reason(error: Exception) -> str:
    """Return the text of an error without its number and file name."""
    return getattr(error, "strerror", None) or str(error)


def _time(packet: av.Packet) -> str:
    return "?" if packet.pts is None else f"{float(packet.pts * packet.time_base):.2f}"


def _claimed_span(
    container: av.container.InputContainer, stream: av.VideoStream
) -> tuple[Fraction, Fraction | None]:
    """Return start and duration in seconds as the file claims them."""
    start = Fraction((stream.start_time or 0) * (stream.time_base or 1))
    if stream.duration and stream.time_base:
        return start, stream.duration * stream.time_base
    if container.duration:
        return start, Fraction(container.duration, av.time_base)
    return start, None


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Read the display matrix as (swap axes, then flip x, then flip y).

    The matrix moves (x, y) to (a x + c y, b x + d y); it is stored in rows (a, b, u), (c, d, v),
    (tx, ty, w). Angles between the quarter turns are taken as the nearest quarter turn.
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = struct.unpack("=9i", bytes(data))[:5]
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0
