from __future__ import annotations

import numpy as np
import pytest

from amodal2.evaluation.average_precision import (
    IOU_THRESHOLDS,
    Cell,
    accumulate,
    match_cell,
    mean_defined,
)

ALL = np.array([[0.0, 1e10]])
HALF = np.array([0.5])


def cell(iou, *, crowd=(), ignore=(), prediction_areas=None, truth_areas=None) -> Cell:
    """Return a cell with falling scores; crowd and ignore list ground truths."""
    iou = np.array(iou, dtype=np.float64)
    count, truths = iou.shape
    return Cell(
        scores=np.linspace(0.9, 0.1, count),
        iou=iou,
        prediction_areas=np.full(count, 100.0) if prediction_areas is None else prediction_areas,
        truth_areas=np.full(truths, 100.0) if truth_areas is None else truth_areas,
        crowd=np.isin(np.arange(truths), crowd),
        ignore=np.isin(np.arange(truths), ignore),
    )


@pytest.mark.parametrize(
    ("one", "matched", "ignored", "positives"),
    [
        pytest.param(cell([[0.6], [0.9]]), [1, 0], [0, 0], 1, id="first-comes-first"),
        pytest.param(cell([[0.6, 0.6], [0.0, 0.7]]), [1, 0], [0, 0], 2, id="tie-takes-later"),
        pytest.param(cell([[0.6, 0.7], [0.6, 0.7]]), [1, 1], [0, 0], 2, id="second-best-is-left"),
        pytest.param(cell([[0.5]]), [1], [0], 1, id="threshold-included"),
        pytest.param(cell([[0.4999]]), [0], [0], 1, id="below-threshold"),
        pytest.param(cell([[0.6, 0.9]], ignore=[1]), [1], [0], 1, id="ignored-is-last-choice"),
        pytest.param(
            cell([[0.4, 0.9], [0, 0.9]], ignore=[1]), [1, 0], [1, 0], 1, id="ignored-once"
        ),
        pytest.param(cell([[0.4, 0.9], [0, 0.9]], crowd=[1]), [1, 1], [1, 1], 1, id="crowd-often"),
        pytest.param(cell(np.zeros((2, 0))), [0, 0], [0, 0], 0, id="no-truth"),
        pytest.param(cell(np.zeros((0, 2))), [], [], 2, id="no-prediction"),
    ],
)
def test_match_cell_hand_computed(one, matched, ignored, positives):
    found = match_cell(one, ALL, HALF)
    assert found.matched[0, 0].astype(int).tolist() == matched
    assert found.ignored[0, 0].astype(int).tolist() == ignored
    assert found.positives.tolist() == [positives]


def test_match_cell_area_ranges_include_both_ends_and_ignore_the_rest():
    ranges = np.array([[0.0, 1e10], [0.0, 100.0], [100.0, 200.0]])
    one = cell(
        [[0.9, 0], [0, 0], [0, 0.9]],
        truth_areas=np.array([100.0, 300.0]),
        prediction_areas=np.array([500.0, 500.0, 100.0]),
    )
    found = match_cell(one, ranges, HALF)
    assert found.positives.tolist() == [2, 1, 1]
    assert found.matched[:, 0].tolist() == [[True, False, True]] * 3
    assert found.ignored[:, 0].tolist() == [[False, False, False]] + [[False, True, True]] * 2


def match_in_loops(one: Cell, low: float, high: float, threshold: float):
    """Match as the COCO rules read, pair by pair."""
    outside = (one.truth_areas < low) | (one.truth_areas > high)
    skip = one.crowd | one.ignore | outside
    order = sorted(range(len(skip)), key=lambda g: skip[g])
    taken: set[int] = set()
    matched, ignored = [], []
    for d in range(len(one.scores)):
        best, limit = None, min(threshold, 1 - 1e-10)
        for g in order:
            if g in taken and not one.crowd[g]:
                continue
            if best is not None and not skip[best] and skip[g]:
                break
            if one.iou[d, g] >= limit:
                best, limit = g, one.iou[d, g]
        taken.add(best)
        matched.append(best is not None)
        too_small_or_large = not low <= one.prediction_areas[d] <= high
        ignored.append(bool(skip[best]) if best is not None else too_small_or_large)
    return matched, ignored


@pytest.mark.parametrize("seed", range(20))
def test_match_cell_equals_plain_loops(seed):
    rng = np.random.default_rng(seed)
    count, truths = rng.integers(1, 12), rng.integers(1, 8)
    one = cell(
        rng.integers(0, 21, (count, truths)) / 20,
        crowd=np.flatnonzero(rng.random(truths) < 0.2),
        ignore=np.flatnonzero(rng.random(truths) < 0.2),
        truth_areas=rng.integers(1, 5, truths) * 100.0,
        prediction_areas=rng.integers(1, 5, count) * 100.0,
    )
    ranges = np.array([[0.0, 1e10], [0.0, 200.0], [200.0, 300.0]])
    found = match_cell(one, ranges, IOU_THRESHOLDS)
    for a, (low, high) in enumerate(ranges):
        for t, threshold in enumerate(IOU_THRESHOLDS):
            matched, ignored = match_in_loops(one, low, high, threshold)
            assert found.matched[a, t].tolist() == matched
            assert found.ignored[a, t].tolist() == ignored


def test_accumulate_hand_computed_curve():
    right_wrong_right = cell([[0.9, 0], [0, 0], [0, 0.9]])
    curves = accumulate([[match_cell(right_wrong_right, ALL, HALF)]], 1, num_thresholds=1)
    precision = curves.precision[0, :, 0, 0, -1]
    np.testing.assert_allclose(precision[:51], 1, atol=1e-15)
    np.testing.assert_allclose(precision[51:], 2 / 3, atol=1e-15)
    assert curves.recall[0, 0, 0].tolist() == [0.5, 1.0, 1.0]


def test_accumulate_category_without_truth_is_undefined_and_missed_truth_is_zero():
    no_truth = match_cell(cell(np.zeros((1, 0))), ALL, HALF)
    missed = match_cell(cell(np.zeros((0, 1))), ALL, HALF)
    curves = accumulate([[], [no_truth], [missed]], 1, num_thresholds=1)
    assert curves.recall[0, :, 0, -1].tolist() == [-1.0, -1.0, 0.0]
    assert curves.precision[0, :, :2].max() == -1.0
    assert curves.precision[0, :, 2].max() == curves.precision[0, :, 2].min() == 0.0


def test_mean_defined_leaves_undefined_entries_out():
    assert mean_defined(np.array([-1.0, 0.5, 1.0])) == 0.75
    assert mean_defined(np.array([-1.0])) == -1.0
