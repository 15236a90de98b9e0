"""Every reader finds the same two objects in the files of its tool."""

import json
import re

import numpy as np
import pytest

from amodal2.data.importers import (
    VideoImport,
    read_coco_frames,
    read_cvat,
    read_labelme,
    read_mask_folders,
)
from amodal2.structures.rle import decode_rle
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import AnnotationError
from tests.data.importers import toy_annotations as toy


def read_all(kind, folder):
    if kind == "labelme":
        toy.write_labelme(folder / "drive")
        return list(read_labelme(folder, folder))
    if kind == "cvat":
        toy.write_cvat(folder / "annotations.xml")
        toy.write_frames(folder / "drive")
        return list(read_cvat(folder / "annotations.xml", [f"drive/{i:03d}.png" for i in range(3)]))
    if kind == "masks":
        toy.write_mask_folders(folder)
        return list(read_mask_folders(folder, folder))
    toy.write_coco(folder / "coco.json")
    return list(read_coco_frames(folder / "coco.json", folder, folder))


@pytest.mark.parametrize("kind", ["labelme", "cvat", "masks", "coco"])
def test_readers_same_objects_give_same_tracks(kind, tmp_path):
    collected = VideoImport()
    for video in read_all(kind, tmp_path):
        collected.add(video)
    collected.write(tmp_path / "all.json")
    dataset = read_video_json(tmp_path / "all.json", strict=True)
    assert [entry["name"] for entry in dataset.categories] == ["bus", "car"]
    assert [entry["length"] for entry in dataset.videos] == [3]
    assert all((tmp_path / name).is_file() for name in dataset.videos[0]["file_names"])
    tracks = {record["category_id"]: record for record in dataset.annotations}
    car, bus = tracks[2], tracks[1]
    expected = [toy.box_mask(toy.CAR), toy.box_mask(toy.HALF), None]
    for mask, truth in zip(car["segmentations"], expected, strict=True):
        np.testing.assert_equal(None if mask is None else decode_rle(mask), truth)
    for mask in car["amodal_segmentations"]:
        np.testing.assert_equal(decode_rle(mask), toy.box_mask(toy.CAR))
    assert car["occlusion_rates"] == [0.0, 0.5, 1.0]
    assert car["bboxes"] == [[1, 2, 4, 4], [1, 2, 2, 4], None]
    assert bus["segmentations"] == bus["amodal_segmentations"]
    assert collected.report["frames of tracks with the visible mask as the amodal one"] == 3


def test_labelme_without_group_id_names_file_and_shape(tmp_path):
    toy.write_labelme(tmp_path)
    file = tmp_path / "001.json"
    data = json.loads(file.read_text())
    data["shapes"][2]["group_id"] = None
    file.write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=r"integer group_id.*001\.json, key shapes\[2\]"):
        list(read_labelme(tmp_path, tmp_path))


def test_labelme_other_size_in_one_video_is_an_error(tmp_path):
    toy.write_labelme(tmp_path)
    file = tmp_path / "002.json"
    file.write_text(file.read_text().replace('"imageWidth": 12', '"imageWidth": 13'))
    with pytest.raises(AnnotationError, match=r"frames of 8x12 .* got 8x13 .*002\.json"):
        list(read_labelme(tmp_path, tmp_path))


def test_labelme_broken_polygon_names_points(tmp_path):
    toy.write_labelme(tmp_path)
    file = tmp_path / "000.json"
    data = json.loads(file.read_text())
    data["shapes"][0]["points"] = [[1, 2], [3, 4]]
    file.write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=r"at least 6 .*key shapes\[0\]\.points"):
        list(read_labelme(tmp_path, tmp_path))


def test_labelme_no_files_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected \*\.json files"):
        list(read_labelme(tmp_path, tmp_path))


def test_cvat_other_format_says_which_is_expected(tmp_path):
    file = tmp_path / "a.xml"
    file.write_text("<annotation><filename>a</filename></annotation>")
    with pytest.raises(AnnotationError, match=r'"CVAT for video 1.1".*got <annotation>'):
        list(read_cvat(file))


def test_cvat_runs_that_do_not_fill_their_box_name_track_and_frame(tmp_path):
    file = tmp_path / "a.xml"
    toy.write_cvat(file)
    file.write_text(file.read_text().replace('rle="0, 16"', 'rle="0, 15"', 1))
    with pytest.raises(AnnotationError, match=r"15 pixels for 4x4.*key track 0, frame 0"):
        list(read_cvat(file))


def test_cvat_frame_list_of_another_length_is_an_error(tmp_path):
    toy.write_cvat(tmp_path / "a.xml")
    with pytest.raises(AnnotationError, match="expected 3 frames as the task has, got 1"):
        list(read_cvat(tmp_path / "a.xml", ["x.png"]))


def test_mask_folders_mask_without_frame_is_an_error(tmp_path):
    toy.write_mask_folders(tmp_path)
    folder = tmp_path / "drive" / "masks" / "car_1" / "visible"
    (folder / "000.png").rename(folder / "010.png")
    with pytest.raises(AnnotationError, match=r"a frame named 010, got none.*010\.png"):
        list(read_mask_folders(tmp_path, tmp_path))


def test_mask_folders_folder_without_number_is_an_error(tmp_path):
    toy.write_mask_folders(tmp_path)
    (tmp_path / "drive" / "masks" / "lorry").mkdir()
    with pytest.raises(AnnotationError, match="<category>_<number>, got 'lorry'"):
        list(read_mask_folders(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("key", "message"),
    [("track_id", "track_id or instance_id"), ("category_id", "an integer category_id, got None")],
)
def test_coco_annotation_without_key_names_it(tmp_path, key, message):
    toy.write_coco(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    del data["annotations"][3][key]
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=f"{message}.*annotation 4"):
        list(read_coco_frames(tmp_path / "a.json", tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ("annotations", {"image_id": 7}, "one amodal mask of track 1 in an image, got two"),
        ("images", {"height": 9}, r"frames of 8x12 \(H x W\).* got 9x12 .*image 8"),
        ("images", {"video_id": []}, r"video_id or video in every image, got \[\].*image 8"),
        ("images", {"frame_index": "x"}, r"frame_index or frame_id .*got 'x'.*image 8"),
        ("images", {"id": 7}, r"unique image ids, got 7 twice"),
        ("annotations", {"track_id": {}}, r"track_id or instance_id .* got \{\}.*annotation 3"),
    ],
)
def test_coco_broken_entry_is_named(tmp_path, where, change, message):
    toy.write_coco(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    data[where][1 if where == "images" else 2] |= change
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=message):
        list(read_coco_frames(tmp_path / "a.json", tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flags": ["a"]}, r"flags by name .*key shapes\[0\]"),
        ({"description": 5}, r"text as description.*key shapes\[0\]"),
        ({"points": [[0, 0], 5]}, r"a list of points x, y.*key shapes\[0\]\.points"),
        ({"points": [[0, 0], [1e9, 0], [5, 5]]}, r"outline below.*key shapes\[0\]\.points"),
        ({"label": "\ud800"}, r"a shape with a label.*key shapes\[0\]"),
    ],
)
def test_labelme_broken_shape_is_named(tmp_path, change, message):
    toy.write_labelme(tmp_path)
    data = json.loads((tmp_path / "001.json").read_text())
    data["shapes"][0] |= change
    (tmp_path / "001.json").write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=message):
        list(read_labelme(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<size>3<", "<size>99999999999<", "a whole number, got '99999999999'"),
        ("<width>12<", "<width>0<", "pixels above 0, got 0.*key original_size"),
        ('rle="0, 16"', 'rle="0, 99999999999999999999"', "runs that fill a box"),
        ('width="4"', 'width="-4"', "runs that fill a box"),
    ],
)
def test_cvat_absurd_number_is_an_error(tmp_path, old, new, message):
    file = tmp_path / "a.xml"
    toy.write_cvat(file)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(AnnotationError, match=message):
        list(read_cvat(file))


def test_coco_truncated_rle_is_an_error(tmp_path):
    toy.write_coco(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    data["annotations"][0]["visible_segm"] = {"size": [8, 12], "counts": "9`"}
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match="annotation 1, key visible_segm"):
        list(read_coco_frames(tmp_path / "a.json", tmp_path, tmp_path))


def test_coco_single_images_are_videos_of_one_frame(tmp_path):
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 4, "width": 6} for i in (10, 11, 12)]
    square = {"category_id": 3, "segmentation": [[0, 0, 3, 0, 3, 3, 0, 3]]}
    crowd = square | {"id": 3, "image_id": 11, "iscrowd": 1}
    objects = [square | {"id": 1, "image_id": 12}, square | {"id": 2, "image_id": 12}, crowd]
    data = {"images": images, "annotations": objects, "categories": [{"id": 3, "name": "cat"}]}
    (tmp_path / "instances.json").write_text(json.dumps(data))
    (video,) = read_coco_frames(
        tmp_path / "instances.json", tmp_path / "train2017", tmp_path, single_images=True
    )
    assert video.file_names == ["train2017/12.jpg"]
    assert list(video.tracks) == [1, 2]
    category, frames = video.tracks[1]
    assert category == "cat"
    assert decode_rle(frames[0].visible).sum() == 9
    assert frames[0].amodal is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (' width="', ' wide="', "expected a mask with whole numbers in left, top, width"),
        (' rle="', ' rle="x', "expected a mask with whole numbers in left, top, width"),
        (' points="', ' points="x', "expected points as x,y;x,y;..., got 'x"),
    ],
)
def test_cvat_shapes_without_numbers_say_what_is_expected(tmp_path, old, new, message):
    file = tmp_path / "annotations.xml"
    toy.write_cvat(file)
    head, shapes = file.read_text().split("<track", 1)
    assert old in shapes
    file.write_text(f"{head}<track{shapes.replace(old, new, 1)}")
    with pytest.raises(AnnotationError, match=f"read_cvat: {re.escape(message)}.*track"):
        list(read_cvat(file))
