"""Small video files: moving blocks, any size, stamps, container and rotation."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 40), (30, 40, 220)
QUARTER_TURNS = {
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
    "mirror": (-1, 0, 0, 1),
}


def sample_frame(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Grey, a red block in the upper left quarter and a blue one that moves right below it."""
    frame = np.full((height, width, 3), 128, np.uint8)
    frame[4 : height // 2 - 4, 4 : width // 2 - 4] = RED
    left = (2 * index) % (width - 12)
    frame[height // 2 + 4 : height - 4, left : left + 12] = BLUE
    return frame


def make_video(
    path: Path,
    count: int = 10,
    height: int = 48,
    width: int = 64,
    *,
    ticks: Sequence[int] | None = None,
    rate: int = 25,
    key_interval: int = 4,
    b_frames: int = 2,
    faststart: bool = False,
) -> list[np.ndarray]:
    """Write H.264 with the given time stamps (in frames) and return the frames."""
    frames = [sample_frame(index, height, width) for index in range(count)]
    options = {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        coding = {"crf": "8", "g": str(key_interval), "bf": str(b_frames)}
        stream = container.add_stream("libx264", rate=rate, options=coding)
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = index if ticks is None else ticks[index]
            picture.time_base = Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return frames


def set_rotation(path: Path, turn: int | str) -> None:
    """Write a display matrix into the track header of an MP4 file; degrees are clockwise."""
    a, b, c, d = (value << 16 for value in QUARTER_TURNS[turn])
    data = bytearray(path.read_bytes())
    box = data.index(b"tkhd")
    matrix = box + 8 + (32 if data[box + 4] else 20) + 16
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def cut_tail(path: Path, keep: float) -> None:
    """Keep a part of the file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def close_to(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether two pictures are the same up to coding losses."""
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) < 6


def make_video_of_two_sizes(path: Path) -> None:
    """Write a raw H.264 stream of 5 frames of 48x64 and 5 of 32x40."""
    data = b""
    for number, (height, width) in enumerate(((48, 64), (32, 40))):
        part = path.with_name(f"part{number}.h264")
        make_video(part, 5, height, width, ticks=range(5 * number, 5 * number + 5), b_frames=0)
        data += part.read_bytes()
        part.unlink()
    path.write_bytes(data)
