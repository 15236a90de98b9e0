from __future__ import annotations

import numpy as np
import pytest

from amodal2.evaluation.box_tubes import box_tubes
from amodal2.utils.errors import AnnotationError
from tests.structures.toy_videos import bar, tube


def collect(**record):
    return box_tubes([{"video_id": 1, **record}], "boxes", "masks", {1: 3}, file="p.json")


def test_box_tubes_stated_boxes_win_over_masks():
    boxes = [[0, 1.5, 2, 3], None, [-4, 0, 30, 2]]
    (found,) = collect(boxes=boxes, masks=tube(bar(0, 5))).boxes
    np.testing.assert_array_equal(found[[0, 2]], [boxes[0], boxes[2]])
    assert np.isnan(found[1]).all()


def test_box_tubes_masks_stand_in_for_missing_lists():
    (found,) = collect(masks=tube(bar(2, 5), None, bar(0, 1, rows=2))).boxes
    np.testing.assert_array_equal(found[[0, 2]], [[2, 0, 3, 4], [0, 0, 1, 2]])
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, 1, 1]] * 2, "3 entries, one per frame, got 2"),
        ("none", "3 entries, one per frame, got 'none'"),
        ([None, [0, 0, 1], None], r"in frame 1, got \[0, 0, 1\]"),
        ([None, None, [0, 0, -1, 1]], "in frame 2"),
        ([[0, 0, 1, float("nan")], None, None], "in frame 0"),
        ([[0, 0, 1, True], None, None], "in frame 0"),
    ],
)
def test_box_tubes_broken_boxes_stop_with_their_place(boxes, message):
    with pytest.raises(AnnotationError, match=message) as caught:
        collect(boxes=boxes, id=7)
    assert "p.json" in str(caught.value)
    assert "record 0" in str(caught.value)


def test_box_tubes_overlaps_hand_computed():
    tubes = box_tubes(
        [
            {"video_id": 1, "boxes": [[0, 0, 2, 2], [0, 0, 2, 2], None]},
            {"video_id": 1, "boxes": [[1, 0, 2, 2], None, [0, 0, 0, 5]]},
        ],
        "boxes",
        "masks",
        {1: 3},
    )
    overlaps = tubes.select([0]).overlaps(tubes.select([1, 0]), 3)
    assert overlaps.frames[:, 0].tolist() == [[1 / 3, 1], [0, 1], [0, 0]]
    assert overlaps.tubes.tolist() == [[2 / 10, 1]]
    assert overlaps.predicted.tolist() == [[True], [True], [False]]
    assert overlaps.truth.tolist() == [[True, True], [False, True], [True, False]]
    assert tubes.mean_areas().tolist() == [4, 4]
