"""Streams: files and local sockets in place of cameras."""

from __future__ import annotations

import socket

import av
import numpy as np
import pytest

from amodal2.utils import live_stream
from amodal2.utils.errors import VideoError
from amodal2.utils.live_stream import LiveStream, public_name, scheme_of
from amodal2.utils.video_file import VideoFile
from tests.utils.sample_streams import serving
from tests.utils.sample_videos import close_to, make_video, make_video_of_two_sizes


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
    make_video_of_two_sizes(tmp_path / "a.h264")
    with LiveStream(f"file:{tmp_path / 'a.h264'}") as stream:
        shapes = [frame.shape for frame, _ in stream]
    assert shapes == 10 * [(48, 64, 3)]


@pytest.mark.parametrize("scheme", ["tcp", "http"])
def test_live_stream_over_a_socket_arrives_whole(tmp_path, scheme):
    """Without a length: the stream is over when the other side hangs up."""
    frames = make_video(tmp_path / "a.ts", 30)

    def send(connection: socket.socket) -> None:
        if scheme == "http":
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        connection.sendall((tmp_path / "a.ts").read_bytes())

    with serving(send) as port, LiveStream(f"{scheme}://127.0.0.1:{port}/a.ts") as stream:
        read = [frame for frame, _ in stream]
    assert all(close_to(a, b) for a, b in zip(read, frames, strict=True))


def test_live_stream_cut_within_a_frame_ends_with_what_came(tmp_path):
    frames = make_video(tmp_path / "a.ts", 30)
    sent = (tmp_path / "a.ts").read_bytes()
    with serving(lambda connection: connection.sendall(sent[: len(sent) // 2 + 77])) as port:
        with LiveStream(f"tcp://127.0.0.1:{port}") as stream:
            read = [frame for frame, _ in stream]
    assert 8 <= len(read) < 30
    assert all(close_to(a, b) for a, b in zip(read[:8], frames, strict=False))


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
