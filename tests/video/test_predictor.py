"""The predictor: clips, state, size and memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from amodal2.structures.rle import decode_rle
from amodal2.video.predictor import Predictor, PredictorSettings, predict_video
from tests.utils.sample_videos import sample_frame
from tests.video.colour_model import ColourModel, OfflineColourModel

IDS = [10, 20, 30]


def run(count: int = 8, clip_len: int = 3, **settings):
    predictor = Predictor(ColourModel(clip_len), PredictorSettings(category_ids=IDS, **settings))
    for index in range(count):
        predictor.push(sample_frame(index))
    return predictor


def test_finish_finds_the_visible_things_with_their_classes():
    with run().finish() as tracks:
        assert [track.category_id for track in tracks] == [10, 30] or [
            track.category_id for track in tracks
        ] == [30, 10]
        assert tracks.length == 8
        assert all(0.8 < track.score <= 0.92 for track in tracks)
        by_class = {track.category_id: track.id for track in tracks}
        for index, objects in enumerate(tracks.frames()):
            masks = {item.id: decode_rle(item.visible) for item in objects}
            frame = sample_frame(index)
            np.testing.assert_array_equal(masks[by_class[10]], frame[..., 0] == 220)
            np.testing.assert_array_equal(masks[by_class[30]], frame[..., 2] == 220)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("clip_len", [1, 3])
def test_finish_any_length_covers_every_frame(count, clip_len):
    with run(count, clip_len).finish() as tracks:
        assert tracks.length == count
        assert [len(objects) for objects in tracks.frames()] == [2] * count


def test_finish_offline_model_gives_the_tracks_of_an_online_one():
    predictor = Predictor(OfflineColourModel(3), PredictorSettings(category_ids=IDS))
    for index in range(8):
        predictor.push(sample_frame(index))
    with pytest.raises(ValueError, match="none before finish"):
        predictor.tracks()
    with predictor.finish() as tracks, run().finish() as expected:
        assert tracks.to_prediction(1) == expected.to_prediction(1)


def test_finish_short_edge_resizes_the_input_not_the_masks():
    model = ColourModel()
    settings = PredictorSettings(short_edge=24, category_ids=IDS)
    frames = [(sample_frame(index), 0.0) for index in range(3)]
    with predict_video(model, frames, settings) as tracks:
        assert model.seen_sizes == {(3, 24, 32)}
        assert (tracks.height, tracks.width) == (48, 64)
        first = next(tracks.frames())
        assert {tuple(item.visible["size"]) for item in first} == {(48, 64)}


def test_tracks_before_the_end_covers_the_clips_so_far():
    predictor = run(7)
    assert predictor.tracks().length == 6
    with predictor.finish() as tracks:
        assert tracks.length == 7


def test_finish_score_threshold_and_top_k_limit_the_tracks():
    assert len(run(score_threshold=0.95).finish()) == 0
    assert len(run(top_k=1).finish()) == 1


def test_predictor_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least one clip that is done, got none"):
        Predictor(ColourModel()).finish()


def test_push_other_size_is_refused():
    predictor = run(1)
    with pytest.raises(ValueError, match=r"frames of size \(48, 64\), got \(48, 60\)"):
        predictor.push(sample_frame(0)[:, :60])


def test_predict_video_failing_source_closes_the_spool():
    closed = []

    def frames():
        yield from ((sample_frame(index), 0.0) for index in range(4))
        raise OSError("the disk is gone")

    class Watched(ColourModel):
        def forward_clip(self, frames, state):
            closed.append("ran")
            return super().forward_clip(frames, state)

    with pytest.raises(OSError, match="the disk is gone"):
        predict_video(Watched(), frames())
    assert closed == ["ran"]


def test_predict_video_memory_does_not_grow_with_the_video():
    peaks = []
    for count in (30, 210):
        frames = ((sample_frame(index), 0.0) for index in range(count))
        tracemalloc.start()
        with predict_video(ColourModel(), frames, PredictorSettings()) as tracks:
            for _ in tracks.frames():
                pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 180 * 100  # the masks alone take 250 bytes per frame
