"""A stream from end to end: pictures and tracks.jsonl."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from amodal2.utils.live_stream import LiveStream
from amodal2.utils.video_file import VideoFile
from amodal2.video.predictor import Predictor
from amodal2.video.run_live import LIVE_SAVEABLE, process_stream
from amodal2.video.streaming import PredictorSettings
from tests.utils.sample_streams import serving
from tests.utils.sample_videos import close_to, make_video
from tests.video.colour_model import CATEGORY_NAMES, ColourModel
from tests.video.test_run import Counter

SETTINGS = PredictorSettings(category_ids=list(CATEGORY_NAMES))


def process(stream, folder, save=("overlay", "json")):
    return process_stream(
        stream, ColourModel(), SETTINGS, folder, CATEGORY_NAMES, save=save, progress=Counter()
    )


def lines_of(folder):
    return [json.loads(line) for line in (folder / "tracks.jsonl").read_text().splitlines()]


@pytest.fixture
def stream(tmp_path):
    make_video(tmp_path / "a.mp4", 8)
    with LiveStream(f"file:{tmp_path / 'a.mp4'}") as stream:
        yield stream


def test_process_stream_writes_every_frame(stream, tmp_path):
    assert process(stream, tmp_path / "out", LIVE_SAVEABLE) == 8
    out = tmp_path / "out"
    head, *lines = lines_of(out)
    assert {entry["id"]: entry["name"] for entry in head["categories"]} == CATEGORY_NAMES
    assert (head["video"]["width"], head["video"]["height"], head["video"]["fps"]) == (64, 48, 25)
    assert [line["frame"] for line in lines] == list(range(8))
    np.testing.assert_allclose([line["seconds"] for line in lines], np.arange(8) / 25, atol=1e-4)
    overlay = [frame for frame, _ in VideoFile(out / "overlay.mp4")]
    source = [frame for frame, _ in VideoFile(tmp_path / "a.mp4")]
    assert len(overlay) == len(list(VideoFile(out / "sidebyside.mp4"))) == 8
    assert not any(close_to(a, b) for a, b in zip(overlay, source, strict=True))
    assert len(list((out / "masks").rglob("*.png"))) == 2 * 2 * 8


def test_process_stream_lines_are_what_a_recording_gives(stream, tmp_path):
    process(stream, tmp_path)
    predictor = Predictor(ColourModel(), SETTINGS)
    ready = [item for frame, _ in VideoFile(tmp_path / "a.mp4") for item in predictor.push(frame)]
    ready += predictor.flush()
    for line, tracked in zip(lines_of(tmp_path)[1:], ready, strict=True):
        for entry, item in zip(line["objects"], tracked.objects, strict=True):
            assert (entry["id"], entry["category_id"]) == (item.id, item.category_id)
            assert entry["segmentation"] == item.visible
            assert entry["amodal_segmentation"] == item.amodal
            assert entry["score"] == pytest.approx(item.score)


def test_process_stream_over_tcp_tracks_before_the_end_is_sent(tmp_path):
    """FFmpeg looks at five seconds before it hands out a frame: ten frames here."""
    make_video(tmp_path / "a.ts", 40, rate=2)
    sent, tracked = (tmp_path / "a.ts").read_bytes(), threading.Event()
    half = len(sent) // 2

    class Progress(Counter):
        def update(self) -> None:
            super().update()
            if self.passes[-1][2] > 3:
                tracked.set()

    seen_early = []

    def send(connection) -> None:
        connection.sendall(sent[:half])
        seen_early.append(tracked.wait(60))
        connection.sendall(sent[half:])

    with serving(send) as port, LiveStream(f"tcp://127.0.0.1:{port}") as stream:
        count = process_stream(
            stream,
            ColourModel(),
            SETTINGS,
            tmp_path,
            CATEGORY_NAMES,
            save=["json"],
            progress=Progress(),
        )
    assert seen_early == [True]
    assert count == 40
    assert [line["frame"] for line in lines_of(tmp_path)[1:]] == list(range(40))


class Interrupted:
    """A stream whose reader presses Ctrl-C."""

    def __init__(self, stream, count):
        self._stream, self._count = stream, count

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def __iter__(self):
        for index, item in enumerate(self._stream):
            if index == self._count:
                raise KeyboardInterrupt
            yield item


def test_process_stream_interrupted_keeps_what_was_seen(stream, tmp_path, caplog):
    with caplog.at_level("INFO", logger="amodal2.video.run_live"):
        assert process(Interrupted(stream, 5), tmp_path) == 5
    assert [line["frame"] for line in lines_of(tmp_path)[1:]] == list(range(5))
    assert len(list(VideoFile(tmp_path / "overlay.mp4"))) == 5
    assert "interrupted after 5 frames" in caplog.text


def test_process_stream_interrupted_in_the_model_keeps_the_clips_before(stream, tmp_path):
    class Slow(ColourModel):
        def forward_clip(self, frames, state):
            if len(state.clips) == 1:
                raise KeyboardInterrupt
            return super().forward_clip(frames, state)

    process_stream(
        stream, Slow(), SETTINGS, tmp_path, CATEGORY_NAMES, save=["json"], progress=Counter()
    )
    assert [line["frame"] for line in lines_of(tmp_path)[1:]] == [0, 1, 2]


def test_process_stream_tells_how_many_frames_it_left_out(stream, tmp_path, caplog):
    stream.dropped = 7
    process(stream, tmp_path, ["json"])
    assert "7 frames came too fast and were left out, 8 were tracked" in caplog.text


def test_process_stream_export_of_a_whole_video_is_refused(stream, tmp_path):
    with pytest.raises(ValueError, match=r"got \['coco'\], which need the whole video"):
        process(stream, tmp_path / "out", ["coco", "json"])
    assert not (tmp_path / "out").exists()
