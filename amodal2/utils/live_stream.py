"""Frames of a camera or a network stream through PyAV, read in a thread of their own.

Letters: H W frame.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from urllib.parse import urlsplit

import av
import numpy as np

from amodal2.utils.closing import Closing
from amodal2.utils.errors import VideoError
from amodal2.utils.frame_source import Frame
from amodal2.utils.logging import get_logger
from amodal2.utils.video_file import decode_frames

PACED = frozenset({"camera", "rtmp", "rtp", "rtsp", "rtsps", "srt", "udp"})
"""Sources that go on whether or not anybody reads: frames that come too fast are dropped."""
UNPACED = frozenset({"file", "http", "https", "pipe", "tcp"})
"""Sources that wait for the reader."""

_TIMEOUT = 30.0  # seconds without any data after which a stream has ended

logger = get_logger(__name__)


class LiveStream(Closing):
    """A camera or stream; use it as a context manager or :meth:`close` it.

    Frames have the size of the first one: others, after a camera changed its mode, are resampled to
    it. Display rotation is not applied. Time stamps begin at 0.

    Attributes:
        name (str): the address without user name, password and query, for messages.
        height (int): H in pixels.
        width (int): W in pixels.
        fps (float): frames per second as the stream claims.
        time_base (Fraction): seconds per tick of the time stamps.
        pixel_aspect (Fraction): width / height of one pixel.
        dropped (int): frames that were left out so far because the reader was too slow.
    """

    def __init__(self, address: str, *, max_waiting: int = 8) -> None:
        """Open the stream and wait for its first frame.

        Args:
            address (str): ``camera:0`` (Linux: ``/dev/video0``), or the URL of a stream: one of
                ``PACED`` and ``UNPACED``, a colon, and what FFmpeg expects there.
            max_waiting (int): frames that may wait for the reader; of a paced source the oldest
                ones are dropped.

        Raises:
            VideoError: if it cannot be opened or gives no picture.
        """
        self.name = public_name(address)
        self.dropped = 0
        self._paced = scheme_of(address) in PACED
        self._max_waiting = max_waiting
        self._waiting: deque[av.VideoFrame] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._container = _open(address, self.name)
        self._frames = decode_frames(self._container, self.name)
        first = next(self._frames, None)
        if first is None:
            self._container.close()
            raise VideoError(f"LiveStream: expected a picture, got none from {self.name}")
        stream = self._container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self.fps = float(rate)
        self.time_base = stream.time_base or 1 / rate
        self.pixel_aspect = stream.codec_context.sample_aspect_ratio or Fraction(1)
        self.height, self.width = first.height, first.width
        self._waiting.append(first)
        self._thread = threading.Thread(target=self._read, name="live-stream", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[Frame, float]]:
        """Yield (frame, time stamp in seconds) until the stream ends or is closed.

        A time stamp that is missing or does not increase is put 1 / fps after the one before.
        """
        step = max(1, round(1 / self.fps / self.time_base))
        origin: int | None = None
        last: int | None = None
        while (raw := self._next()) is not None:
            stamp = raw.pts
            if stamp is None or (last is not None and stamp <= last):
                stamp = 0 if last is None else last + step
            last = stamp
            origin = stamp if origin is None else origin
            yield self._convert(raw), float((stamp - origin) * self.time_base)

    def close(self) -> None:
        """Stop reading; frames that wait are lost."""
        with self._changed:
            self._ended = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(timeout=2.0)

    def _read(self) -> None:
        """Decode frames until the stream ends or is closed; runs in the thread."""
        try:
            for frame in self._frames:
                with self._changed:
                    if self._paced and len(self._waiting) >= self._max_waiting:
                        self._waiting.popleft()
                        self.dropped += 1
                    self._changed.wait_for(
                        lambda: self._ended or len(self._waiting) < self._max_waiting
                    )
                    if self._ended:
                        return
                    self._waiting.append(frame)
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._container.close()

    def _next(self) -> av.VideoFrame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or bool(self._waiting))
            frame = self._waiting.popleft() if self._waiting else None
            self._changed.notify_all()
            return frame

    def _convert(self, raw: av.VideoFrame) -> Frame:
        if (raw.height, raw.width) != (self.height, self.width):
            raw = raw.reformat(width=self.width, height=self.height, format="rgb24")
        return np.ascontiguousarray(raw.to_ndarray(format="rgb24"))


def scheme_of(address: str) -> str | None:
    """Return how an address begins.

    Args:
        address (str): what a user named.

    Returns:
        str | None: an entry of ``PACED`` or ``UNPACED``; None if it is no address of a stream.
    """
    scheme = address.partition(":")[0].lower() if ":" in address else ""
    return scheme if scheme in PACED | UNPACED else None


def public_name(address: str) -> str:
    """Return an address without user name, password and query.

    Args:
        address (str): of a stream.
    """
    parts = urlsplit(address)
    if not parts.netloc:
        return address
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _open(address: str, name: str) -> av.container.InputContainer:
    url, form, options = address, None, {}
    scheme, _, rest = address.partition(":")
    if scheme.lower() == "camera":
        url, form = (f"/dev/video{rest}" if re.fullmatch(r"\d+", rest) else rest), "video4linux2"
    elif scheme.lower() in ("rtsp", "rtsps"):
        options = {"rtsp_flags": "prefer_tcp"}
    try:
        container = av.open(
            url, format=form, options=options, timeout=_TIMEOUT, metadata_errors="replace"
        )
    except (av.error.FFmpegError, OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or str(e)
        raise VideoError(f"LiveStream: expected a readable stream, got {name}: {reason}") from e
    if not container.streams.video:
        container.close()
        raise VideoError(f"LiveStream: expected a stream with pictures, got {name}")
    return container
