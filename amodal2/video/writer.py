"""Write frames to a video file that browsers play."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np

from amodal2.utils.errors import VideoError
from amodal2.utils.files import atomic_write
from amodal2.utils.frame_source import Frame

_FINEST = 1_000_000  # ticks per second; more would not fit every player's 32 bits
_BT709 = 1  # code of the BT.709 primaries, transfer and matrix in H.264


class VideoWriter(AbstractContextManager["VideoWriter"]):
    """Encodes H.264 (yuv420p, MP4 with its index first) with the time stamps it is given.

    Use it as a context manager. The file gets its name when the block ends without an error; else
    it is removed, and an older file of that name stays. A thread of its own converts and encodes
    each frame while the caller makes the next one. Frames of odd size are padded by repeating
    their last row or column, since yuv420p halves the sides.
    """

    def __init__(
        self,
        path: str | Path,
        height: int,
        width: int,
        *,
        fps: float = 25.0,
        time_base: Fraction = Fraction(1, 90_000),
        pixel_aspect: Fraction = Fraction(1),
        crf: int = 20,
        preset: str = "superfast",
    ) -> None:
        """Store the settings; the file is opened on entering the context.

        Args:
            path (str | Path): ``.mp4`` file to write.
            height (int): pixels of every frame.
            width (int): pixels of every frame.
            fps (float): average rate, a hint for the encoder; the time stamps decide.
            time_base (Fraction): seconds per tick; stamps are rounded to whole ticks. The source's
                own keeps its stamps exactly.
            pixel_aspect (Fraction): width / height of one pixel.
            crf (int): x264's quality from 0 (lossless) to 51.
            preset (str): x264's speed, "ultrafast" to "veryslow".
        """
        self.path = Path(path)
        self._size = (height, width)
        self._rate = Fraction(fps).limit_denominator(1001)
        fine = time_base.denominator > _FINEST
        self._time_base = Fraction(1, 90_000) if fine else time_base
        self._pixel_aspect = pixel_aspect
        self._options = {"crf": str(crf), "preset": preset}
        self._last: int | None = None
        self._pending: Future[None] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> VideoWriter:
        """Open the temporary file and the encoder."""
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_write(self.path))
            self._container = stack.enter_context(
                av.open(str(temporary), "w", format="mp4", options=self._container_options())
            )
            self._stream = self._add_stream()
            self._thread = stack.enter_context(ThreadPoolExecutor(1, "video-writer"))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file and give it its name, or remove it after an error.

        Raises:
            VideoError: if no frame was written or the encoder fails.
        """
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        try:
            with self._stack:
                if self._last is None:
                    raise VideoError(f"VideoWriter: expected a frame, got none for {self.path}")
                self._wait()
                self._encode(None)
        except av.error.FFmpegError as e:
            raise self._failure(e) from e

    def write(self, frame: Frame, seconds: float) -> None:
        """Append a frame; it is encoded while the caller goes on.

        Args:
            frame (ndarray[H, W, 3]): RGB uint8; must not be changed afterwards.
            seconds (float): time stamp, not before that of the frame before; one that is not later
                by a tick is moved there.

        Raises:
            ValueError: if the frame has another size.
            VideoError: if the encoder failed at the frame before.
        """
        if frame.shape != (*self._size, 3):
            raise ValueError(
                f"VideoWriter.write: expected frames {(*self._size, 3)}, got {frame.shape}"
            )
        stamp = round(seconds / self._time_base)
        if self._last is not None:
            stamp = max(stamp, self._last + 1)
        self._last = stamp
        self._wait()
        self._pending = self._thread.submit(self._append, frame, stamp)

    def _append(self, frame: Frame, stamp: int) -> None:
        bottom, right = self._size[0] % 2, self._size[1] % 2
        if bottom or right:
            frame = np.asarray(
                cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.uint8
            )
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(
            format="yuv420p", dst_colorspace="itu709", interpolation="FAST_BILINEAR"
        )
        picture.pts = stamp
        picture.time_base = self._time_base
        self._encode(picture)

    def _wait(self) -> None:
        """Wait for the frame that is being encoded and pass on its error."""
        if self._pending is not None:
            self._pending.result()

    def _container_options(self) -> dict[str, str]:
        """Put the index first, and measure the start, too, in ticks instead of milliseconds."""
        return {
            "movflags": "+faststart",
            "movie_timescale": str(self._time_base.denominator),
        }

    def _add_stream(self) -> av.VideoStream:
        stream = self._container.add_stream("libx264", rate=self._rate, options=self._options)
        height, width = self._size
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._time_base
        context.sample_aspect_ratio = self._pixel_aspect
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        return stream

    def _encode(self, picture: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
        except av.error.FFmpegError as e:
            raise self._failure(e) from e

    def _failure(self, cause: Exception) -> VideoError:
        return VideoError(f"VideoWriter: expected to write {self.path}, got: {cause}")
