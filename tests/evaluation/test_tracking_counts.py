from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from amodal2.evaluation.overlaps import Overlaps
from amodal2.evaluation.tracking_counts import TrackingCounts, count_video, drop_tracks


def video(*frames: list[list[float]], predicted=None, truth=None) -> Overlaps:
    """Make overlaps from one matrix [D, G] per frame; tracks are present unless told otherwise."""
    iou = np.array(frames, dtype=np.float64)
    count, d, g = iou.shape
    predicted = np.ones((count, d), bool) if predicted is None else np.array(predicted, bool)
    truth = np.ones((count, g), bool) if truth is None else np.array(truth, bool)
    return Overlaps(iou, np.zeros((d, g)), predicted, truth)


def random_video(rng: np.random.Generator) -> Overlaps:
    """Draw tracks with gaps, several close predictions per true track, and empty frames."""
    count, d, g = rng.integers((1, 0, 0), (15, 9, 6)).tolist()
    predicted, truth = rng.random((count, d)) < 0.7, rng.random((count, g)) < 0.7
    close = rng.random((d, g)) < 0.4
    iou = np.where(close, rng.random((count, d, g)) ** 0.4, rng.random((count, d, g)) ** 4)
    iou[rng.random(iou.shape) < 0.3] = 0
    iou *= predicted[:, :, None] & truth[:, None]
    return Overlaps(iou, np.zeros((d, g)), predicted, truth)


def as_trackeval(overlaps: Overlaps) -> dict:
    """Return what the metrics of trackeval take; tracks that are never present have no id."""
    number = np.cumsum(overlaps.predicted.any(0)) - 1, np.cumsum(overlaps.truth.any(0)) - 1
    present = list(zip(overlaps.predicted, overlaps.truth, strict=True))
    frames = list(zip(overlaps.frames, present, strict=True))
    return {
        "num_timesteps": len(frames),
        "num_tracker_ids": int(overlaps.predicted.any(0).sum()),
        "num_gt_ids": int(overlaps.truth.any(0).sum()),
        "num_tracker_dets": int(overlaps.predicted.sum()),
        "num_gt_dets": int(overlaps.truth.sum()),
        "tracker_ids": [number[0][d] for d, _ in present],
        "gt_ids": [number[1][g] for _, g in present],
        "similarity_scores": [iou[d][:, g].T.copy() for iou, (d, g) in frames],
    }


@pytest.mark.parametrize("seed", range(5))
def test_tracking_counts_equal_trackeval(seed):
    metrics = pytest.importorskip(
        "trackeval.metrics", reason="the reference: pip install --no-deps trackeval"
    )
    rng = np.random.default_rng(seed)
    videos = [random_video(rng) for _ in range(40)]
    found = sum((count_video(one) for one in videos), TrackingCounts()).stats()
    expected = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for metric in (metrics.HOTA(), metrics.CLEAR(), metrics.Identity()):
            results = [metric.eval_sequence(as_trackeval(one)) for one in videos]
            expected |= metric.combine_sequences(dict(enumerate(results)))
    names = set(found) & set(expected)
    assert set(found) - names == {"Dets", "GT_Dets", "IDs", "GT_IDs"}
    assert 0.2 < found["HOTA"] < 0.8
    assert found["IDSW"] > 50
    for name in names:
        assert found[name] == pytest.approx(np.mean(expected[name]), abs=1e-12), name


def test_tracking_counts_same_tracks_score_one():
    same = count_video(video(*[np.eye(3).tolist()] * 4)).stats()
    fractions = "HOTA DetA AssA DetRe DetPr AssRe AssPr LocA MOTA MOTP IDF1 IDR IDP".split()
    assert [same[name] for name in fractions] == [1.0] * len(fractions)
    assert (same["IDSW"], same["Frag"], same["MT"], same["ML"]) == (0, 0, 3, 0)


def test_tracking_counts_identity_switch_hand_computed():
    first, second = [[0.8], [0.0]], [[0.0], [0.8]]
    overlaps = video(first, first, first, second, predicted=[[1, 0]] * 3 + [[0, 1]])
    stats = count_video(overlaps).stats()
    assert (stats["IDSW"], stats["CLR_TP"], stats["CLR_FP"], stats["CLR_FN"]) == (1, 4, 0, 0)
    assert stats["MOTA"] == pytest.approx(3 / 4)
    assert stats["MOTP"] == pytest.approx(0.8)
    assert stats["IDF1"] == pytest.approx(3 / 4)
    # Reached by the 16 thresholds up to .8; 3 of 4 frames by one track, 1 of 4 by the other.
    assert stats["DetA"] == pytest.approx(16 / 19)
    assert stats["AssA"] == pytest.approx(16 / 19 * (3 * 3 / 4 + 1 / 4) / 4)


def test_tracking_counts_matched_pairs_are_kept_in_the_next_frame():
    stats = count_video(video([[0.6], [0.5]], [[0.6], [0.9]])).stats()
    assert (stats["IDSW"], stats["CLR_TP"], stats["CLR_FP"]) == (0, 2, 2)
    assert stats["MOTP"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("matched", "expected"),
    [
        pytest.param([1, 1, 1, 1, 1], {"MT": 1, "PT": 0, "ML": 0, "Frag": 0}, id="always"),
        pytest.param([1, 1, 0, 1, 1], {"MT": 0, "PT": 1, "ML": 0, "Frag": 1}, id="four-fifths"),
        pytest.param([1, 0, 1, 0, 1], {"MT": 0, "PT": 1, "ML": 0, "Frag": 2}, id="twice"),
        pytest.param([0, 0, 1, 0, 0], {"MT": 0, "PT": 1, "ML": 0, "Frag": 0}, id="one-fifth"),
        pytest.param([0, 0, 0, 0, 0], {"MT": 0, "PT": 0, "ML": 1, "Frag": 0}, id="never"),
    ],
)
def test_tracking_counts_coverage_of_tracks(matched, expected):
    stats = count_video(video(*[[[0.7 * one]] for one in matched])).stats()
    assert {name: stats[name] for name in expected} == expected


@pytest.mark.parametrize("shape", [(3, 0, 0), (3, 2, 0), (3, 0, 2)])
def test_tracking_counts_one_side_empty(shape):
    stats = count_video(video(*np.zeros(shape))).stats()
    assert (stats["HOTA"], stats["IDF1"], stats["LocA"]) == (0, 0, 1)
    assert (stats["CLR_FP"], stats["CLR_FN"]) == (3 * shape[1], 3 * shape[2])
    assert stats["ML"] == shape[2]


def test_drop_tracks_takes_the_predictions_of_dropped_tracks_frame_by_frame():
    overlaps = video(
        [[0.9, 0.0], [0.0, 0.6]],
        [[0.0, 0.8], [0.6, 0.0]],
        [[0.0, 0.4], [0.0, 0.3]],
    )
    kept = drop_tracks(overlaps, np.array([False, True]))
    assert kept.predicted.tolist() == [[True, False], [False, True], [True, True]]
    assert kept.frames[:, :, 0].tolist() == [[0.9, 0.0], [0.0, 0.6], [0.0, 0.0]]
    assert kept.truth.shape == (3, 1)
    assert overlaps.predicted.all()


def test_drop_tracks_of_two_fitting_tracks_the_best_assignment_decides():
    overlaps = video([[0.9, 0.8], [0.7, 0.0]])
    kept = drop_tracks(overlaps, np.array([False, True]))
    # .8 + .7 > .9: the first prediction belongs to the dropped track.
    assert kept.predicted.tolist() == [[False, True]]
