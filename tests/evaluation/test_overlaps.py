from __future__ import annotations

import numpy as np
import pytest

from amodal2.evaluation.overlaps import mean_area, measure_tubes
from amodal2.structures.rle import encode_mask
from tests.structures.toy_videos import bar, tube


def iou(predicted: list, truth: list) -> np.ndarray:
    length = max((len(one) for one in predicted + truth), default=1)
    return measure_tubes(predicted).overlaps(measure_tubes(truth), length).tubes


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        pytest.param(tube(bar(0, 10)), 1.0, id="same"),
        pytest.param(tube(bar(5, 15)), 1 / 3, id="shifted"),
        pytest.param(tube(bar(0, 10), bar(0, 10), None), 2 / 3, id="missing-frame"),
        pytest.param(tube(bar(0, 10), bar(10, 20), None), 1 / 4, id="disjoint-frame"),
        pytest.param(tube(bar(10, 20)), 0.0, id="disjoint"),
        pytest.param(tube(None), 0.0, id="empty"),
    ],
)
def test_overlaps_hand_computed(predicted, expected):
    assert iou([predicted], [tube(bar(0, 10))]) == pytest.approx(expected, abs=1e-15)


def test_overlaps_two_empty_tubes_is_zero():
    assert iou([tube(None)], [tube(None)]) == 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 2), (2, 0)])
def test_overlaps_without_tracks_has_the_right_shape(shape):
    assert iou([tube(None)] * shape[0], [tube(None)] * shape[1]).shape == shape


def test_overlaps_equals_pixel_counts():
    rng = np.random.default_rng(0)
    masks = rng.random((9, 5, 30, 40)) < rng.random((9, 5, 1, 1))
    masks[rng.random((9, 5)) < 0.3] = False
    tubes = [[encode_mask(mask) if mask.any() else None for mask in one] for one in masks]
    both = [[(a & b).sum() / (a | b).sum() for b in masks[4:]] for a in masks[:4]]
    np.testing.assert_array_equal(iou(tubes[:4], tubes[4:]), both)


def test_measure_tubes_areas_and_means():
    tubes = measure_tubes([tube(bar(0, 2), None, bar(0, 4)), tube(None)])
    assert [areas.tolist() for areas in tubes.areas] == [[8, 0, 16], [0, 0, 0]]
    assert tubes.mean_areas().tolist() == [12.0, 0.0]
    assert tubes.select([1]).mean_areas().tolist() == [0.0]


def test_mean_area_leaves_null_and_zero_out():
    assert mean_area([None, 4, 0, 8]) == 6.0
    assert mean_area([None]) == 0.0
