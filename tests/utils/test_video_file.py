"""Video files: any size, any stamps, any quarter turn, cut off and damaged ones."""

from __future__ import annotations

import logging

import av
import numpy as np
import pytest

from amodal2.utils.errors import VideoError
from amodal2.utils.video_file import VideoFile
from tests.utils.sample_videos import (
    close_to,
    cut_tail,
    make_video,
    make_video_of_two_sizes,
    set_rotation,
)

UNEVEN = [0, 3, 4, 10, 11, 30, 31, 32, 40, 41]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (33, 50), (20, 61)])
def test_video_file_any_size_yields_its_frames(tmp_path, height, width):
    frames = make_video(tmp_path / "a.mp4", 6, height, width)
    source = VideoFile(tmp_path / "a.mp4")
    read = [frame for frame, _ in source]
    assert (source.height, source.width, source.length, source.fps) == (height, width, 6, 25.0)
    assert all(close_to(a, b) for a, b in zip(read, frames, strict=True))
    assert read[0].flags.c_contiguous
    assert read[0].flags.writeable


def test_video_file_frames_that_change_size_are_resampled_to_the_first(tmp_path):
    make_video_of_two_sizes(tmp_path / "a.h264")
    frames = [frame for frame, _ in VideoFile(tmp_path / "a.h264")]
    assert [frame.shape for frame in frames] == 10 * [(48, 64, 3)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
def test_video_file_variable_rate_keeps_time_stamps(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    make_video(path, ticks=UNEVEN)
    stamps = [seconds for _, seconds in VideoFile(path)]
    np.testing.assert_allclose(np.array(stamps) - stamps[0], np.array(UNEVEN) / 25, atol=1e-3)
    with av.open(str(path)) as container:
        assert stamps == [frame.time for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", ["avi", "h264"])
def test_video_file_without_presentation_stamps_runs_at_its_rate(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    make_video(path)
    stamps = [seconds for _, seconds in VideoFile(path)]
    np.testing.assert_allclose(stamps, np.arange(10) / 25, atol=1e-6)


@pytest.mark.parametrize(
    ("turn", "upright"),
    [
        (0, lambda frame: frame),
        (90, lambda frame: np.rot90(frame, -1)),
        (180, lambda frame: np.rot90(frame, 2)),
        (270, lambda frame: np.rot90(frame, 1)),
        ("mirror", lambda frame: frame[:, ::-1]),
    ],
)
def test_video_file_display_matrix_is_applied(tmp_path, turn, upright):
    path = tmp_path / "a.mp4"
    frames = [upright(frame) for frame in make_video(path, 6)]
    set_rotation(path, turn)
    source = VideoFile(path)
    read = [frame for frame, _ in source]
    assert (source.height, source.width) == frames[0].shape[:2]
    assert all(close_to(a, b) for a, b in zip(read, frames, strict=True))
    assert close_to(source.read([4])[0], frames[4])


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi", "h264"])
def test_read_any_order_equals_sequential_frames(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    make_video(path, 23, key_interval=5)
    source = VideoFile(path)
    frames = [frame for frame, _ in source]
    assert len(frames) == 23
    for indices in ([7, 0, 7, 22], [3, 4, 5], [6, 7, 8], [21], [], list(range(23))):
        got = source.read(indices)
        assert got.shape == (len(indices), 48, 64, 3)
        for place, index in enumerate(indices):
            np.testing.assert_array_equal(got[place], frames[index])
    source.close()


def test_read_neighbouring_clips_decode_each_frame_once(tmp_path, monkeypatch):
    make_video(tmp_path / "a.mp4", 12, key_interval=4)
    source = VideoFile(tmp_path / "a.mp4")
    opened = []
    real_open = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: opened.append(a) or real_open(*a, **k))
    for start in (0, 3, 6, 9):
        source.read(range(start, start + 3))
    assert len(opened) <= 1 + 3  # the index, then one decoder per key frame interval


@pytest.mark.parametrize("index", [-1, 10])
def test_read_absent_frame_names_the_range(tmp_path, index):
    make_video(tmp_path / "a.mp4")
    with pytest.raises(IndexError, match=rf"\[0, 10\), got {index}"):
        VideoFile(tmp_path / "a.mp4").read([index])


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_video_file_cut_tail_yields_the_rest_with_a_warning(tmp_path, suffix, caplog):
    path = tmp_path / f"a.{suffix}"
    frames = make_video(path, 100, faststart=suffix == "mp4", rate=10)
    cut_tail(path, 0.6)
    with caplog.at_level(logging.WARNING, "amodal2"):
        read = [frame for frame, _ in VideoFile(path)]
    assert 30 < len(read) < 90
    assert all(close_to(a, b) for a, b in zip(read, frames[: len(read)], strict=True))
    if suffix != "ts":  # a transport stream does not say how long it should be
        assert "reading ended at" in caplog.text


def test_video_file_cut_tail_warns_once_for_two_passes(tmp_path, caplog):
    path = tmp_path / "a.mp4"
    make_video(path, 100, faststart=True, rate=10)
    cut_tail(path, 0.6)
    source = VideoFile(path)
    with caplog.at_level(logging.WARNING, "amodal2"):
        assert sum(1 for _ in source) == sum(1 for _ in source)
    assert caplog.text.count("reading ended at") == 1


def test_video_file_damaged_middle_goes_on_behind_it(tmp_path):
    path = tmp_path / "a.ts"
    make_video(path, 60, key_interval=5)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 800] = bytes(800)
    path.write_bytes(data)
    stamps = [seconds for _, seconds in VideoFile(path)]
    assert len(stamps) > 40
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100], ids=["empty", "text"])
def test_video_file_corrupt_file_is_refused(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"readable video, got .*a\.mp4: Invalid data"):
        VideoFile(path)


def test_video_file_header_without_frames_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    make_video(path, faststart=True)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 8])
    with pytest.raises(VideoError, match="no decodable frame"):
        VideoFile(path)


def test_video_file_sound_only_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(VideoError, match="with a video stream"):
        VideoFile(path)
