from __future__ import annotations

import logging

import pytest

from amodal2.structures.rle import rle_area
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import AnnotationError
from tests.structures.toy_videos import CRAB, FISH, LENGTH, SIZE, bar, content, track, tube, write

HIDDEN = tube(bar(0, 12))


def test_read_video_json_normal_form_fills_defaults(tmp_path):
    data = content(track(1), track(2, category=CRAB))
    del data["videos"][0]["length"], data["annotations"][0]["iscrowd"]
    dataset = read_video_json(write(tmp_path, data))
    assert dataset.videos[0]["length"] == LENGTH
    assert [category["id"] for category in dataset.categories] == [FISH, CRAB]
    assert [record["iscrowd"] for record in dataset.annotations] == [0, 0]
    assert (dataset.skipped, dict(dataset.warnings)) == (0, {})


@pytest.mark.parametrize("amodal", [None, HIDDEN])
def test_read_video_json_has_tells_which_masks_there_are(tmp_path, amodal):
    dataset = read_video_json(write(tmp_path, content(track(1, amodal_segmentations=amodal))))
    assert dataset.has("segmentations")
    assert dataset.has("amodal_segmentations") == (amodal is not None)


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param({"size": [*SIZE], "counts": [40, 8, 32]}, id="uncompressed"),
        pytest.param([[10, 0, 12, 0, 12, 4, 10, 4]], id="polygon"),
    ],
)
def test_read_video_json_ytvis_forms_become_compressed(tmp_path, mask):
    data = content(track(1, segmentations=tube(mask, None, bar(0, 0))))
    first, second, third = read_video_json(write(tmp_path, data)).annotations[0]["segmentations"]
    assert isinstance(first["counts"], str)
    assert rle_area(first) == 8
    assert second is third is None


def test_read_video_json_ids_from_zero_are_shifted_with_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="amodal2"):
        dataset = read_video_json(write(tmp_path, content(track(0), track(5))))
    assert [record["id"] for record in dataset.annotations] == [1, 6]
    assert "annotation ids below 1" in caplog.text


def broken(key: str, value: object, entry: str = "annotations") -> dict:
    """Return a file whose last entry of a list has one wrong value."""
    data = content(track(1), track(2, amodal_segmentations=HIDDEN), videos=2)
    data[entry][-1][key] = value
    return data


CASES = {
    "length": ("segmentations", [None], "segmentations", "expected 3 entries .*got 1"),
    "no-list": ("amodal_segmentations", 5, "amodal_segmentations", "expected a list of 3"),
    "missing": ("segmentations", None, "segmentations", "expected a list of 3"),
    "boxes-length": ("bboxes", [None] * 4, "bboxes", "expected 3 entries .*got 4"),
    "box-of-nothing": (
        "amodal_segmentations",
        tube(bar(0, 12), bar(0, 12), None),
        r"amodal_segmentations\[2\]",
        "where the visible mask",
    ),
    "no-box": ("bboxes", [[0, 0, 10, 4], None, [0, 0, 10, 4]], r"bboxes\[1\]", "a value where"),
    "no-rate": ("occlusion_rates", [0.2, 0.2, None], r"occlusion_rates\[2\]", "a value where"),
    "rle-size": (
        "segmentations",
        tube({"size": [20, 4], "counts": bar(0, 1)["counts"]}),
        r"segmentations\[0\]",
        r"expected RLE size \[4, 20\]",
    ),
    "rle-cut": (
        "segmentations",
        tube(bar(0, 10), {"size": [4, 20], "counts": bar(0, 10)["counts"][:-2]}, None),
        r"segmentations\[1\]",
        "truncated or damaged",
    ),
    "polygon": ("segmentations", tube([[]]), r"segmentations\[0\]", "polygons"),
    "category": ("category_id", 4, "category_id", r"one of the category ids \[3, 7\], got 4"),
    "video": ("video_id", 9, "video_id", "id of a video entry, got 9"),
    "video-list": ("video_id", [1], "video_id", r"id of a video entry, got \[1\]"),
    "category-text": ("category_id", "3", "category_id", "got '3'"),
    "text-area": ("areas", [40, "x", 40], r"areas\[1\]", "a finite number, got 'x'"),
    "short-box": ("bboxes", [[0, 0, 10, 4], [0, 0], None], r"bboxes\[1\]", "four finite numbers"),
    "nan-rate": ("occlusion_rates", [0, 0, float("nan")], r"occlusion_rates\[2\]", "got nan"),
    "crowd": ("iscrowd", 2, "iscrowd", "expected 0 or 1, got 2"),
    "duplicate": ("id", 1, "id", "unique annotation ids, got 1 twice"),
    "text-id": ("id", "x", "id", "expected an integer id"),
    "minus-area": ("areas", [40, -1, 40], r"areas\[1\]", "an area of 0 to 1e"),
    "huge-area": ("areas", [40, 10**400, 40], r"areas\[1\]", "a finite number"),
    "turned-box": ("bboxes", [[9, 9, -9, -9]] * 3, r"bboxes\[0\]", "w, h >= 0"),
    "huge-id": ("id", 2**63, "id", "expected an integer id"),
}


@pytest.mark.parametrize(("key", "value", "place", "message"), CASES.values(), ids=CASES)
def test_read_video_json_broken_track_names_file_video_annotation_and_key(
    tmp_path, key, value, place, message
):
    path = write(tmp_path, broken(key, value))
    with pytest.raises(AnnotationError, match=message) as caught:
        read_video_json(path)
    assert caught.match(f"file {path}, video .*, annotation .*, key {place}")
    assert caught.value.file == str(path)


@pytest.mark.parametrize(("key", "value", "place", "message"), CASES.values(), ids=CASES)
def test_read_video_json_skip_invalid_leaves_broken_track_out(
    tmp_path, caplog, key, value, place, message
):
    with caplog.at_level(logging.DEBUG, logger="amodal2"):
        dataset = read_video_json(write(tmp_path, broken(key, value)), skip_invalid=True)
    assert [record["id"] for record in dataset.annotations] == [1]
    assert dataset.skipped == 1
    assert "1 invalid records left out" in caplog.text


def test_read_video_json_box_beside_no_mask_raises(tmp_path):
    data = content(track(1, segmentations=tube(None), bboxes=[[0, 0, 1, 1], None, None]))
    with pytest.raises(AnnotationError, match=r"null where segmentations is null.*key bboxes\[0\]"):
        read_video_json(write(tmp_path, data))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("height", 0, "pixels above 0, got 0"),
        ("width", None, "pixels above 0"),
        ("length", 4, "expected 4 paths"),
        ("length", "3", "number of frames"),
        ("file_names", None, "'file_name' .a video., got neither"),
        ("file_names", "a.png", "list of paths"),
        ("file_name", 5, "path of the video, got 5"),
        ("width", 2**30, "at most 2147483647 pixels"),
        ("id", 1, "unique video ids"),
    ],
)
def test_read_video_json_broken_video_names_it(tmp_path, key, value, message):
    path = write(tmp_path, broken(key, value, "videos"))
    with pytest.raises(AnnotationError, match=message) as caught:
        read_video_json(path)
    assert caught.value.video_id is not None
    assert caught.value.file == str(path)


def test_read_video_json_skipped_video_takes_its_tracks_along(tmp_path):
    data = content(track(1), track(2, video=2), videos=2)
    data["videos"][1]["height"] = -1
    dataset = read_video_json(write(tmp_path, data), skip_invalid=True)
    assert [record["id"] for record in dataset.annotations] == [1]
    assert dataset.skipped == 2


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        pytest.param(
            {"segmentations": tube(None, bar(0, 5), bar(0, 5)), "amodal_segmentations": HIDDEN},
            "before their first visible frame: 1 ",
            id="early",
        ),
        pytest.param(
            {"amodal_segmentations": tube(bar(0, 10), bar(0, 9), bar(1, 20))},
            "outside the amodal mask: 2 ",
            id="outside",
        ),
        pytest.param(
            {"amodal_segmentations": HIDDEN, "occlusion_rates": [0.2, 1.2, 0.2]},
            "occlusion_rates outside .0, 1.: 1 ",
            id="rate",
        ),
    ],
)
def test_read_video_json_doubtful_track_warns_and_stops_in_strict_mode(
    tmp_path, caplog, lists, message
):
    path = write(tmp_path, content(track(1, **lists)))
    with caplog.at_level(logging.WARNING, logger="amodal2"):
        assert len(read_video_json(path).annotations) == 1
    assert str(path) in caplog.text
    with pytest.raises(AnnotationError, match=message + "cases in strict mode"):
        read_video_json(path, strict=True)


def test_read_video_json_partly_amodal_file_warns(tmp_path):
    data = content(track(1), track(2, amodal_segmentations=HIDDEN))
    dataset = read_video_json(write(tmp_path, data))
    assert dataset.warnings["tracks without amodal_segmentations, while others have them"] == 1


def test_read_video_json_absent_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="DETECTRON2_DATASETS"):
        read_video_json(tmp_path / "no.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"videos": []}', '{"videos": 1}'])
def test_read_video_json_other_json_raises(tmp_path, text):
    path = tmp_path / "gt.json"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=r"read_video_json: expected .*gt\.json"):
        read_video_json(path)


@pytest.mark.parametrize("entry", ["videos", "categories", "annotations"])
def test_read_video_json_entry_that_is_no_object_raises(tmp_path, entry):
    data = content(track(1))
    data[entry].append(3)
    with pytest.raises(AnnotationError, match="expected an object, got 3"):
        read_video_json(write(tmp_path, data))


def test_read_video_json_category_without_name_raises(tmp_path):
    with pytest.raises(AnnotationError, match="category name"):
        read_video_json(write(tmp_path, broken("name", None, "categories")))
