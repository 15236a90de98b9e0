from __future__ import annotations

import json

import pytest

from amodal2.structures.track import Track, VideoPrediction, boxes_of
from tests.structures.toy_videos import FISH, LENGTH, SIZE, bar, tube

VIDEO = {"id": 4, "height": SIZE[0], "width": SIZE[1], "length": LENGTH}


def make_prediction() -> VideoPrediction:
    first = Track(1, FISH, 0.75, tube(None, bar(2, 5), None), tube(bar(0, 9)), 0.5)
    second = Track(2, FISH, 0.25, tube(bar(3, 4)), None)
    return VideoPrediction(4, *SIZE, LENGTH, [first, second])


def test_video_prediction_json_round_trip_is_identity():
    prediction = make_prediction()
    records = json.loads(json.dumps(prediction.to_annotations()))
    assert VideoPrediction.from_annotations(VIDEO, records) == prediction


def test_to_annotations_fills_boxes_and_leaves_unpredicted_kinds_out():
    first, second = make_prediction().to_annotations()
    assert first["bboxes"] == [None, [2, 0, 3, 4], None]
    assert first["amodal_bboxes"] == [[0, 0, 9, 4]] * LENGTH
    assert first["amodal_score"] == 0.5
    assert not {"amodal_segmentations", "amodal_bboxes", "amodal_score"} & set(second)


def test_to_annotations_wrong_length_raises():
    prediction = make_prediction()
    prediction.tracks[1].visible.append(None)
    with pytest.raises(ValueError, match="expected 3 masks per track in video 4, got 4 in track 2"):
        prediction.to_annotations()


def test_from_annotations_takes_own_video_and_numbers_from_one():
    records = make_prediction().to_annotations()
    for record in records:
        del record["id"]
    other = {**records[0], "video_id": 5}
    read = VideoPrediction.from_annotations(VIDEO, [other, *records])
    assert [track.id for track in read.tracks] == [1, 2]


def test_boxes_of_empty_mask_has_no_box():
    assert boxes_of([bar(3, 3), None, bar(3, 4)]) == [None, None, [3, 0, 1, 4]]
