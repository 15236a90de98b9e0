"""Streams: files and local sockets in place of cameras."""

from __future__ import annotations

import socket
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from amodal2.utils import live_stream
from amodal2.utils.errors import VideoError
from amodal2.utils.live_stream import LiveStream, public_name, scheme_of
from amodal2.utils.video_file import VideoFile
from tests.utils.sample_videos import close_to, make_video, make_video_of_two_sizes, sample_frame


def test_live_stream_of_a_file_yields_every_frame_from_time_zero(tmp_path):
    path = tmp_path / "a.mp4"
    frames = make_video(path, 30, ticks=range(100, 130))
    with LiveStream(f"file:{path}", max_waiting=2) as stream:
        read = list(stream)
        assert (stream.height, stream.width, stream.fps, stream.dropped) == (48, 64, 25.0, 0)
    assert all(close_to(a, b) for (a, _), b in zip(read, frames, strict=True))
    np.testing.assert_allclose([seconds for _, seconds in read], np.arange(30) / 25, atol=1e-4)
    assert read[0][0].flags.writeable


def test_live_stream_slow_reader_gets_the_latest_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(live_stream, "PACED", frozenset({"file"}))
    make_video(tmp_path / "a.mp4", 30)
    expected = [frame for frame, _ in VideoFile(tmp_path / "a.mp4")][-4:]
    with LiveStream(f"file:{tmp_path / 'a.mp4'}", max_waiting=4) as stream:
        stream._thread.join(60)
        read = [frame for frame, _ in stream]
        assert stream.dropped == 26
    np.testing.assert_array_equal(read, expected)


def test_live_stream_close_ends_a_reader_that_waits(tmp_path):
    make_video(tmp_path / "a.mp4", 30)
    stream = LiveStream(f"file:{tmp_path / 'a.mp4'}", max_waiting=1)
    stream.close()
    assert not stream._thread.is_alive()
    assert list(stream) == []


def test_live_stream_frames_that_change_size_are_resampled_to_the_first(tmp_path):
    make_video_of_two_sizes(tmp_path / "a.ts")
    with LiveStream(f"file:{tmp_path / 'a.ts'}") as stream:
        shapes = [frame.shape for frame, _ in stream]
    assert shapes == 10 * [(48, 64, 3)]


def send(url: str, count: int, done: threading.Event) -> None:
    """Send frames as MPEG-TS until the reader has enough."""
    with av.open(url, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"g": "5"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        index = 0
        while not done.is_set() and index < count:
            picture = av.VideoFrame.from_ndarray(sample_frame(index), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(picture))
            index += 1
        container.mux(stream.encode(None))


def test_live_stream_over_tcp_arrives_whole():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = threading.Event()
    sender = threading.Thread(
        target=send, args=(f"tcp://127.0.0.1:{port}?listen=1", 40, done), daemon=True
    )
    sender.start()
    stream = None
    for _ in range(100):
        try:
            stream = LiveStream(f"tcp://127.0.0.1:{port}")
            break
        except VideoError:  # the sender does not listen yet
            done.wait(0.1)
    assert stream is not None
    with stream:
        read = [frame for frame, _ in stream]
    done.set()
    sender.join(10)
    assert len(read) == 40
    assert close_to(read[7], sample_frame(7))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("camera:99", "got camera:99: No such file"),
        ("camera:/dev/absent", "got camera:/dev/absent: No such file"),
        ("rtsp://user:secret@127.0.0.1:9/cam?key=secret", r"got rtsp://127\.0\.0\.1:9/cam: "),
    ],
)
def test_live_stream_that_cannot_be_opened_is_an_error_without_secrets(address, message):
    with pytest.raises(VideoError, match=message) as caught:
        LiveStream(address)
    assert "secret" not in str(caught.value)


def test_live_stream_of_sound_only_is_an_error(tmp_path):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(VideoError, match="expected a stream with pictures"):
        LiveStream(f"file:{tmp_path / 'a.wav'}")


def test_scheme_of_knows_addresses_from_files():
    addresses = ["camera:0", "RTSP://host/a", "udp://@:1234", "pipe:0"]
    assert [scheme_of(address) for address in addresses] == ["camera", "rtsp", "udp", "pipe"]
    files = ["a.mp4", "C:\\a.mp4", "take:1.mp4", "frames/", "camera"]
    assert [scheme_of(file) for file in files] == 5 * [None]


def test_public_name_leaves_secrets_out():
    assert public_name("rtsp://a:b@host:554/x?token=c") == "rtsp://host:554/x"
    assert public_name("camera:0") == "camera:0"
