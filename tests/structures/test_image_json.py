from __future__ import annotations

import logging

import pytest

from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import rle_area
from amodal2.utils.errors import AnnotationError
from tests.structures.toy_images import image_content, image_dataset, thing
from tests.structures.toy_videos import CRAB, FISH, SIZE, bar, write


def test_read_image_json_measures_what_is_left_out(tmp_path):
    record = thing(1)
    del record["iscrowd"]
    (found,) = image_dataset(tmp_path, record).annotations
    assert found["iscrowd"] == 0
    assert (found["amodal_area"], found["visible_area"]) == (40, 20)
    assert (found["amodal_bbox"], found["visible_bbox"]) == ([0, 0, 10, 4], [0, 0, 5, 4])
    assert found["occlusion_rate"] == pytest.approx(0.5)


def test_read_image_json_values_of_the_file_are_kept(tmp_path):
    stated = {"amodal_area": 7, "amodal_bbox": [1, 2, 3, 4], "occlusion_rate": 0.25}
    (found,) = image_dataset(tmp_path, thing(1, **stated)).annotations
    assert {key: found[key] for key in stated} == stated


@pytest.mark.parametrize("visible", [None, bar(0, 0)])
def test_read_image_json_fully_hidden_object_is_kept(tmp_path, visible):
    (found,) = image_dataset(tmp_path, thing(1, visible_segm=visible)).annotations
    assert (found["visible_segm"], found["visible_bbox"], found["visible_area"]) == (None, None, 0)
    assert found["occlusion_rate"] == 1


@pytest.mark.parametrize(
    ("amodal", "visible"),
    [
        pytest.param("segmentation", "inmodal_seg", id="kins-2019"),
        pytest.param("a_segm", "i_segm", id="kins-2020"),
        pytest.param("segmentation", "visible_mask", id="cocoa-cls"),
        pytest.param("amodal_segm", "visible_segm", id="aistron"),
    ],
)
def test_read_image_json_names_of_other_datasets(tmp_path, amodal, visible):
    record = {"id": 1, "image_id": 1, "category_id": CRAB, "iscrowd": False}
    masks = {
        amodal: [[10, 0, 14, 0, 14, 4, 10, 4]],
        visible: {"size": [*SIZE], "counts": [40, 8, 32]},
    }
    (found,) = image_dataset(tmp_path, record | masks).annotations
    assert (rle_area(found["amodal_segm"]), rle_area(found["visible_segm"])) == (16, 8)
    assert found["iscrowd"] == 0


def test_read_image_json_own_key_wins_over_an_alias(tmp_path):
    (found,) = image_dataset(tmp_path, thing(1, segmentation=bar(0, 1))).annotations
    assert rle_area(found["amodal_segm"]) == 40


def test_read_image_json_has_tells_which_masks_there_are(tmp_path):
    record = thing(1)
    del record["visible_segm"]
    dataset = image_dataset(tmp_path, record)
    assert dataset.has("amodal_segm")
    assert not dataset.has("visible_segm")
    assert "occlusion_rate" not in dataset.annotations[0]


def test_read_image_json_ids_from_zero_are_shifted_with_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="amodal2"):
        dataset = image_dataset(tmp_path, thing(0), thing(5))
    assert [record["id"] for record in dataset.annotations] == [1, 6]
    assert "annotation ids below 1" in caplog.text


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"visible_segm": bar(5, 15)}, "visible pixels outside the amodal mask: 1 cases"),
        ({"occlusion_rate": 1.5}, r"occlusion_rate outside \[0, 1\]: 1 cases"),
    ],
)
def test_read_image_json_doubtful_content_warns_and_stops_strict(tmp_path, caplog, keys, text):
    path = write(tmp_path, image_content(thing(1, **keys), thing(2)))
    with caplog.at_level(logging.WARNING, logger="amodal2"):
        assert len(read_image_json(path).annotations) == 2
    assert len(caplog.records) == 1
    with pytest.raises(AnnotationError, match=text):
        read_image_json(path, strict=True)


TRUNCATED = {"size": [*SIZE], "counts": bar(3, 7)["counts"][:-1]}


@pytest.mark.parametrize(
    ("keys", "key", "text"),
    [
        pytest.param({"image_id": 9}, "image_id", "id of an image entry, got 9", id="image"),
        pytest.param({"image_id": "1"}, "image_id", "got '1'", id="text-id"),
        pytest.param({"category_id": 1}, "category_id", r"\[3, 7\], got 1", id="category"),
        pytest.param({"id": 1}, "id", "unique annotation ids, got 1 twice", id="twice"),
        pytest.param({"id": "x"}, "id", "integer id in annotation number 1, got 'x'", id="id"),
        pytest.param({"iscrowd": 2}, "iscrowd", "0 or 1, got 2", id="crowd"),
        pytest.param({"amodal_segm": None}, "amodal_segm", "a mask with pixels", id="null"),
        pytest.param({"amodal_segm": bar(0, 0)}, "amodal_segm", "with pixels", id="empty"),
        pytest.param({"visible_segm": TRUNCATED}, "visible_segm", "cut inside", id="truncated"),
        pytest.param(
            {"visible_segm": {"size": [*SIZE], "counts": "\x00!"}},
            "visible_segm",
            "'0' to 'o'",
            id="garbage",
        ),
        pytest.param(
            {"amodal_segm": {"size": [20, 4], "counts": "PP"}},
            "amodal_segm",
            r"\[4, 20\]",
            id="size",
        ),
        pytest.param({"amodal_segm": []}, "amodal_segm", "at least one polygon", id="no-polygon"),
        pytest.param({"amodal_segm": [[]]}, "amodal_segm", "at least 6", id="empty-polygon"),
        pytest.param({"occluder_segm": [[1, 2]]}, "occluder_segm", "at least 6", id="occluder"),
        pytest.param({"amodal_bbox": [0, 0, 1]}, "amodal_bbox", "four finite numbers", id="box"),
        pytest.param({"amodal_area": "9"}, "amodal_area", "a finite number, got '9'", id="area"),
        pytest.param({"visible_area": -1}, "visible_area", "an area of 0 to 1e", id="minus"),
        pytest.param({"amodal_area": 1e11}, "amodal_area", "an area of 0 to 1e", id="huge-area"),
        pytest.param({"amodal_area": 10**400}, "amodal_area", "a finite number", id="no-float"),
        pytest.param({"amodal_bbox": [9, 9, -3, -3]}, "amodal_bbox", "w, h >= 0", id="turned"),
        pytest.param({"amodal_bbox": [0, 0, 1e6, 1e6]}, "amodal_bbox", "1e10", id="huge-box"),
        pytest.param({"isStuff": "1"}, "isStuff", "0 or 1, got '1'", id="stuff"),
        pytest.param({"id": 2**63}, "id", "integer id", id="huge-id"),
        pytest.param(
            {"amodal_segm": [[0, 0, 1e9, 0, 1e9, 5]]}, "amodal_segm", "outline below", id="outline"
        ),
    ],
)
def test_read_image_json_broken_object_is_named_or_skipped(tmp_path, keys, key, text):
    path = write(tmp_path, image_content(thing(1), thing(2) | keys))
    with pytest.raises(AnnotationError, match=text) as caught:
        read_image_json(path)
    assert (caught.value.file, caught.value.key) == (str(path), key)
    assert caught.value.annotation_id == keys.get("id", 2)
    assert caught.value.image_id == keys.get("image_id", 1)
    dataset = read_image_json(path, skip_invalid=True)
    assert (len(dataset.annotations), dataset.skipped) == (1, 1)


def test_read_image_json_object_without_masks_is_refused(tmp_path):
    record = {"id": 1, "image_id": 1, "category_id": FISH}
    with pytest.raises(AnnotationError, match="'amodal_segm' or 'visible_segm', got neither"):
        image_dataset(tmp_path, record)


@pytest.mark.parametrize(
    ("entry", "key", "value", "text"),
    [
        ("images", "height", 0, "pixels above 0, got 0"),
        ("images", "file_name", None, "path of the image, got None"),
        ("categories", "name", 3, "a category name, got 3"),
        ("categories", "name", "\ud800", "a category name, got"),
        ("categories", "name", "crab", "unique category names, got 'crab' twice"),
        ("images", "file_name", "a\0.png", "path of the image, got"),
        ("images", "height", 2**30, "at most 2147483647 pixels"),
    ],
)
def test_read_image_json_broken_image_or_category_is_named(tmp_path, entry, key, value, text):
    data = image_content(thing(1))
    data[entry][-1][key] = value
    with pytest.raises(AnnotationError, match=text) as caught:
        read_image_json(write(tmp_path, data))
    assert caught.value.key == key


@pytest.mark.parametrize("data", [[], {"images": []}])
def test_read_image_json_other_layout_is_refused(tmp_path, data):
    with pytest.raises(AnnotationError, match="lists images, categories and annotations"):
        read_image_json(write(tmp_path, data))


def test_read_image_json_text_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "gt.json"
    path.write_text("{")
    with pytest.raises(AnnotationError, match="expected JSON"):
        read_image_json(path)


def test_read_image_json_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file .*none\.json"):
        read_image_json(tmp_path / "none.json")
