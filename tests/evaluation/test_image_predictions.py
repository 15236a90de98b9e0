from __future__ import annotations

import math

import pytest

from amodal2.evaluation.image_predictions import check_image_predictions, load_record_lists
from amodal2.structures.rle import rle_area
from amodal2.utils.errors import AnnotationError
from tests.structures.toy_images import found, image_dataset, thing
from tests.structures.toy_videos import SIZE, bar

GOOD = found(0.9, amodal_segm=bar(0, 10), bbox=[0, 0, 10, 4])


def test_check_image_predictions_normal_form_leaves_the_input_alone(tmp_path):
    record = found(0.9, amodal_segm={"size": [*SIZE], "counts": [0, 8, 72]})
    (checked,), notes = check_image_predictions([record], image_dataset(tmp_path, thing(1)))
    assert isinstance(record["amodal_segm"]["counts"], list)
    assert (rle_area(checked["amodal_segm"]), notes) == (8, [])


def test_check_image_predictions_duplicates_are_noted(tmp_path):
    _, notes = check_image_predictions([GOOD, dict(GOOD)], image_dataset(tmp_path, thing(1)))
    assert notes == ["1 exact duplicates among the predictions (false positives)"]


@pytest.mark.parametrize(
    ("keys", "key", "text"),
    [
        pytest.param(
            {"image_id": 9},
            "image_id",
            r"1 integer ids of the ground truth \(1\), got 9",
            id="image",
        ),
        pytest.param({"image_id": "1"}, "image_id", "got '1'", id="text-id"),
        pytest.param({"category_id": 2}, "category_id", r"\(3, 7\), got 2", id="category"),
        pytest.param({"score": math.nan}, "score", "a finite number, got nan", id="nan"),
        pytest.param({"score": None}, "score", "got None", id="no-score"),
        pytest.param({"bbox": [0, 0, math.inf, 1]}, "bbox", "four finite numbers", id="box"),
        pytest.param(
            {"amodal_segm": {"size": [20, 4], "counts": "0"}},
            "amodal_segm",
            r"\[4, 20\]",
            id="size",
        ),
        pytest.param(
            {"amodal_segm": {"size": [*SIZE], "counts": "8"}},
            "amodal_segm",
            "sum to 80",
            id="truncated",
        ),
        pytest.param(
            {"amodal_segm": {"size": [*SIZE], "counts": "~~"}},
            "amodal_segm",
            "'0' to 'o'",
            id="garbage",
        ),
    ],
)
def test_check_image_predictions_broken_record_is_named(tmp_path, keys, key, text):
    dataset = image_dataset(tmp_path, thing(1))
    with pytest.raises(AnnotationError, match=text) as caught:
        check_image_predictions([GOOD, GOOD | keys], dataset, file="out.json")
    assert (caught.value.file, caught.value.key) == ("out.json", key)
    assert "prediction record 1" in str(caught.value)


@pytest.mark.parametrize("key", ["amodal_segm", "bbox"])
def test_check_image_predictions_key_that_only_others_have_is_named(tmp_path, key):
    record = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(AnnotationError, match=f"expected '{key}' in every record"):
        check_image_predictions([GOOD, record], image_dataset(tmp_path, thing(1)))


@pytest.mark.parametrize("record", [found(0.9, bbox=[0, 0, 1, 1]), 5])
def test_check_image_predictions_without_masks_is_refused(tmp_path, record):
    with pytest.raises(AnnotationError, match="got neither in 1 records"):
        check_image_predictions([record], image_dataset(tmp_path, thing(1)))


def test_check_image_predictions_record_that_is_no_object_is_named(tmp_path):
    with pytest.raises(AnnotationError, match="expected an object, got 5"):
        check_image_predictions([GOOD, 5], image_dataset(tmp_path, thing(1)))


def test_load_record_lists_joins_the_files(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(f'["{name}"]')
    assert load_record_lists([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]


@pytest.mark.parametrize(("text", "message"), [("{", "expected JSON"), ("{}", "list of records")])
def test_load_record_lists_other_content_is_named(tmp_path, text, message):
    (tmp_path / "a").write_text(text)
    with pytest.raises(AnnotationError, match=message) as caught:
        load_record_lists([tmp_path / "a"])
    assert caught.value.file == str(tmp_path / "a")
