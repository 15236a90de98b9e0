"""Tracks and tracks.json."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from amodal2.structures.track import VideoPrediction
from amodal2.structures.tube_spool import TubeSpool
from amodal2.video.predictor import PredictorSettings, predict_video
from tests.utils.sample_videos import sample_frame
from tests.video.colour_model import CATEGORY_NAMES, ColourModel


def make_tracks(count: int = 7, amodal: bool = True, threshold: float = 0.0, visible: bool = True):
    frames = ((sample_frame(index), index / 25) for index in range(count))
    settings = PredictorSettings(category_ids=list(CATEGORY_NAMES), score_threshold=threshold)
    return predict_video(ColourModel(amodal=amodal, visible=visible), frames, settings)


def write(tracks, path):
    tracks.write_json(path, file_name="a.mp4", category_names=CATEGORY_NAMES, fps=25.0)
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("visible", "amodal"), [(True, True), (True, False), (False, True)], ids=["2", "vis", "amodal"]
)
def test_write_json_equals_the_prediction_in_memory(tmp_path, visible, amodal):
    with make_tracks(visible=visible, amodal=amodal) as tracks:
        content = write(tracks, tmp_path / "tracks.json")
        prediction = tracks.to_prediction(1)
    assert content["videos"] == [
        {"id": 1, "width": 64, "height": 48, "length": 7, "file_name": "a.mp4", "fps": 25.0}
    ]
    assert {entry["id"]: entry["name"] for entry in content["categories"]} == CATEGORY_NAMES
    assert content["annotations"] == json.loads(json.dumps(prediction.to_annotations()))
    assert len(content["annotations"]) == 2
    assert all(("segmentations" in record) == visible for record in content["annotations"])
    assert all(("amodal_bboxes" in record) == amodal for record in content["annotations"])
    read = VideoPrediction.from_annotations(content["videos"][0], content["annotations"])
    assert read == prediction


def test_write_json_without_tracks_is_valid(tmp_path):
    with make_tracks(threshold=1.0) as tracks:
        content = write(tracks, tmp_path / "tracks.json")
    assert content["annotations"] == []


def test_write_json_failure_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "tracks.json"
    path.write_text("old")

    def fail(self, track, kind):
        yield None
        raise OSError("no space left")

    with make_tracks() as tracks:
        monkeypatch.setattr(TubeSpool, "iter_tube", fail)
        with pytest.raises(OSError, match="no space left"):
            write(tracks, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_json_memory_does_not_hold_the_masks(tmp_path):
    peaks, sizes = [], []
    for count in (20, 200):
        with make_tracks(count) as tracks:
            path = tmp_path / f"{count}.json"
            tracemalloc.start()
            tracks.write_json(path, file_name="a.mp4", category_names=CATEGORY_NAMES)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            sizes.append(path.stat().st_size)
    assert sizes[1] - sizes[0] > 180 * 200
    assert peaks[1] - peaks[0] < (sizes[1] - sizes[0]) / 2
