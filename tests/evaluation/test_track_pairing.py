"""Predicted tracks and the true objects that they fit."""

from amodal2.evaluation.track_pairing import pair_tracks
from tests.structures.toy_videos import bar, dataset, prediction, track, tube


def amodal(stop):
    return {"amodal_segmentations": tube(bar(0, stop))}


def test_pair_tracks_takes_the_best_fitting_track(tmp_path):
    truth = dataset(
        tmp_path,
        track(1, **amodal(12)),
        track(2, segmentations=tube(bar(14, 20)), **amodal(20)),
        track(3, video=2, **amodal(12)),
        videos=2,
    )
    found = [
        prediction(0.9, segmentations=tube(bar(0, 7)), **amodal(7)),
        prediction(0.1, segmentations=tube(bar(0, 9)), **amodal(9)),
        prediction(0.5, segmentations=tube(bar(18, 20)), **amodal(20)),
    ]
    (pair,) = pair_tracks(truth, found)
    assert (pair["gt_id"], pair["video_id"]) == (1, 1)
    assert pair["amodal_segmentations"] == tube(bar(0, 9))
    pairs = pair_tracks(truth, found, threshold=0.3)
    assert [one["gt_id"] for one in pairs] == [1, 2]


def test_pair_tracks_one_track_may_fit_two_objects(tmp_path):
    truth = dataset(tmp_path, track(1, **amodal(10)), track(2, **amodal(10)))
    found = [prediction(0.9, segmentations=tube(bar(0, 10)), **amodal(10))]
    assert [one["gt_id"] for one in pair_tracks(truth, found)] == [1, 2]
