"""The video writer: stamps, sizes, completeness."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from amodal2.utils.errors import VideoError
from amodal2.utils.video_file import VideoFile
from amodal2.video.writer import VideoWriter
from tests.utils.sample_videos import close_to, sample_frame

TICKS = [0, 3, 4, 10, 11, 30, 31, 32, 40, 41]


def write(path, seconds, height=48, width=64, **settings):
    frames = [sample_frame(index, height, width) for index in range(len(seconds))]
    with VideoWriter(path, height, width, **settings) as writer:
        for frame, stamp in zip(frames, seconds, strict=True):
            writer.write(frame, stamp)
    return frames


@pytest.mark.parametrize(
    "time_base",
    [
        Fraction(1, 25),
        Fraction(1, 1000),
        Fraction(1001, 30000),
        Fraction(1, 12800),
        Fraction(1, 10**9),
    ],
    ids=str,
)
@pytest.mark.parametrize("start", [0.0, 1.4])
def test_writer_uneven_stamps_come_back(tmp_path, time_base, start):
    first = round(start / time_base) * time_base
    seconds = [float(first + round(tick / 25 / time_base) * time_base) for tick in TICKS]
    write(tmp_path / "a.mp4", seconds, time_base=time_base)
    read = [stamp for _, stamp in VideoFile(tmp_path / "a.mp4")]
    np.testing.assert_allclose(read, seconds, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 64), (48, 63), (33, 51)])
def test_writer_odd_size_is_padded_to_even(tmp_path, height, width):
    frames = write(tmp_path / "a.mp4", [0, 0.04, 0.08], height, width, crf=5)
    read = [frame for frame, _ in VideoFile(tmp_path / "a.mp4")]
    assert read[0].shape == (height + height % 2, width + width % 2, 3)
    assert all(close_to(a[:height, :width], b) for a, b in zip(read, frames, strict=True))


def test_writer_file_suits_browsers(tmp_path):
    write(tmp_path / "a.mp4", [0, 0.04], pixel_aspect=Fraction(4, 3))
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert context.sample_aspect_ratio == Fraction(4, 3)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_writer_stamps_that_do_not_rise_are_moved(tmp_path):
    write(tmp_path / "a.mp4", [0, 0.04, 0.04, 0.02, 0.2], time_base=Fraction(1, 100))
    read = [stamp for _, stamp in VideoFile(tmp_path / "a.mp4")]
    np.testing.assert_allclose(read, [0, 0.04, 0.05, 0.06, 0.2], atol=1e-6)


def test_writer_error_in_the_block_leaves_no_file(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", 48, 64)
    with pytest.raises(RuntimeError, match="stop"), writer:
        write_then_fail(writer)
    assert list(tmp_path.iterdir()) == []


def write_then_fail(writer):
    writer.write(sample_frame(0), 0.0)
    assert not writer.path.exists()
    raise RuntimeError("stop")


def test_writer_failure_in_its_thread_reaches_the_caller(tmp_path, monkeypatch):
    def fail(self, picture):
        raise VideoError("disk full")

    monkeypatch.setattr(VideoWriter, "_encode", fail)
    for count in (1, 2):
        with pytest.raises(VideoError, match="disk full"):
            write(tmp_path / "a.mp4", [0.0, 0.04][:count])
    assert list(tmp_path.iterdir()) == []


def test_writer_without_frames_is_refused(tmp_path):
    with (
        pytest.raises(VideoError, match="expected a frame, got none"),
        VideoWriter(tmp_path / "a.mp4", 48, 64),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_write_other_size_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match=r"frames \(48, 64, 3\), got \(48, 60, 3\)"),
        VideoWriter(tmp_path / "a.mp4", 48, 64) as writer,
    ):
        writer.write(sample_frame(0, 48, 60), 0.0)
