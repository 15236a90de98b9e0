from __future__ import annotations

import copy

import numpy as np
import pytest

from amodal2.evaluation.predictions import check_predictions
from amodal2.structures.packed_tube import pack_tube
from amodal2.structures.rle import encode_mask
from amodal2.utils.errors import AnnotationError
from tests.structures.toy_videos import CRAB, SIZE, bar, dataset, prediction, track, tube

GOOD = prediction(0.9, segmentations=tube(bar(0, 10)))
CUT = {"size": [*SIZE], "counts": bar(0, 10)["counts"][:-2]}


@pytest.fixture
def truth(tmp_path):
    return dataset(tmp_path, track(1))


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        pytest.param({"video_id": 2}, "video_id", r"1 integer ids .*\(1\), got 2", id="video"),
        pytest.param({"video_id": "1"}, "video_id", "got '1'", id="text-id"),
        pytest.param(
            {"category_id": 4}, "category_id", r"\(3, 7\), got 4; map the ids", id="class"
        ),
        pytest.param({"category_id": True}, "category_id", "got True", id="bool-class"),
        pytest.param({"score": float("nan")}, "score", "finite number, got nan", id="nan"),
        pytest.param({"score": None}, "score", "finite number, got None", id="no-score"),
        pytest.param({"amodal_score": "x"}, "amodal_score", "got 'x'", id="text-score"),
        pytest.param({"segmentations": tube(bar(0, 1))[:2]}, "segmentations", "got 2", id="short"),
        pytest.param({"segmentations": [None] * 4}, "segmentations", "got 4", id="long"),
        pytest.param({"segmentations": {}}, "segmentations", "got dict", id="no-list"),
        pytest.param({"segmentations": None}, "segmentations", "in every record", id="no-masks"),
        pytest.param(
            {"segmentations": tube({"size": [20, 4], "counts": "P2"})},
            r"segmentations\[0\]",
            r"size \[4, 20\]",
            id="size",
        ),
        pytest.param(
            {"segmentations": tube(None, CUT, None)},
            r"segmentations\[1\]",
            "truncated or damaged",
            id="cut-rle",
        ),
        pytest.param(
            {"segmentations": tube({"size": [*SIZE], "counts": "~?"})},
            r"segmentations\[0\]",
            "characters",
            id="garbage-rle",
        ),
        pytest.param(
            {"segmentations": tube(3)}, r"segmentations\[0\]", "expected an RLE", id="no-rle"
        ),
    ],
)
def test_check_predictions_invalid_record_names_its_place(truth, change, key, message):
    with pytest.raises(AnnotationError, match=message) as caught:
        check_predictions([GOOD, GOOD | change], truth, file="pred.json")
    assert caught.match(rf"prediction record 1.*file pred\.json.*key {key}")


def test_check_predictions_entry_that_is_no_object_raises(truth):
    with pytest.raises(AnnotationError, match="expected an object, got 5"):
        check_predictions([GOOD, 5], truth)


def test_check_predictions_without_any_mask_key_raises(truth):
    with pytest.raises(AnnotationError, match="got neither in 1 records"):
        check_predictions([prediction(0.5)], truth)


def test_check_predictions_input_stays_unchanged_and_empty_masks_become_none(truth):
    record = prediction(0.9, segmentations=tube(bar(0, 10), bar(5, 5), None), bbox=[0, 0, 1, 1])
    before = copy.deepcopy(record)
    (checked,), notes = check_predictions([record], truth)
    assert record == before
    assert checked["segmentations"] == tube(bar(0, 10), None, None)
    assert notes == []


def test_check_predictions_null_kind_counts_as_not_predicted(truth):
    (checked,), _ = check_predictions([GOOD | {"amodal_segmentations": None}], truth)
    assert "amodal_segmentations" not in checked


@pytest.mark.parametrize(
    ("predictions", "note"),
    [
        pytest.param([], "no predictions for 1 true tracks", id="none"),
        pytest.param([GOOD, GOOD], "1 exact duplicates", id="duplicate"),
        pytest.param(
            [GOOD, GOOD | {"segmentations": tube(None)}],
            "1 predicted tracks without any visible mask",
            id="empty-tube",
        ),
        pytest.param(
            [GOOD | {"category_id": CRAB}], r"no predicted category (\[7\]) occurs", id="class"
        ),
    ],
)
def test_check_predictions_suspicious_content_is_noted(truth, predictions, note):
    _, notes = check_predictions(predictions, truth)
    assert [note.replace("\\", "") in found for found in notes] == [True]


def test_check_predictions_videos_without_predictions_are_counted(tmp_path):
    truth = dataset(tmp_path, track(1), track(2, video=2), videos=2)
    _, notes = check_predictions([GOOD], truth)
    assert notes == ["1 videos with true tracks have no predictions"]


PACKED_ERRORS = {
    "another size": (encode_mask(np.ones((20, 4), dtype=bool)), r"expected RLE size \[4, 20\]"),
    "cut": ({"size": [4, 20], "counts": bar(2, 10)["counts"][:-1]}, "sum to 80 pixels|cut inside"),
    "foreign": ({"size": [4, 20], "counts": "~"}, "characters '0' to 'o'"),
}


@pytest.mark.parametrize("key", PACKED_ERRORS)
def test_check_predictions_packed_masks_are_checked_like_lists(truth, key):
    mask, message = PACKED_ERRORS[key]
    bad = prediction(0.5, segmentations=pack_tube([None, mask, mask]))
    with pytest.raises(AnnotationError, match=message) as caught:
        check_predictions([GOOD, bad], truth)
    assert caught.match(r"record 1.*key segmentations\[1\]")


def test_check_predictions_packed_masks_give_the_records_of_lists(truth):
    masks = tube(bar(0, 10), bar(5, 5), None)
    packed = prediction(0.9, segmentations=pack_tube(masks))
    (found,), _ = check_predictions([packed], truth)
    (expected,), _ = check_predictions([prediction(0.9, segmentations=masks)], truth)
    assert found == expected
    assert found["segmentations"].areas.tolist() == [40, 0, 0]
    assert packed["segmentations"] == masks


def test_check_predictions_packed_masks_of_another_length_raise(truth):
    bad = prediction(0.5, segmentations=pack_tube([bar(0, 10)] * 2))
    with pytest.raises(AnnotationError, match=r"expected a list of 3 entries.*got 2"):
        check_predictions([bad], truth)
