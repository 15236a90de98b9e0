import json
import shutil

import cv2
import numpy as np
import pytest

from amodal2.data.importers.fishbowl import read_fishbowl
from amodal2.structures.rle import decode_rle, encode_mask
from amodal2.utils.errors import AnnotationError

SIZE = (6, 8)


def mask(columns):
    array = np.zeros(SIZE, dtype=bool)
    array[1:5, columns] = True
    return array


def write_objects(file, objects):
    file.parent.mkdir(parents=True)
    entries = [
        {"id": key, "type_name": name, "masks": [encode_mask(m) for m in masks]}
        for key, name, masks in objects
    ]
    file.write_text(json.dumps(entries))


@pytest.fixture
def root(tmp_path):
    frames = tmp_path / "test_frames" / "00007"
    frames.mkdir(parents=True)
    for index in range(2):
        cv2.imwrite(str(frames / f"{index:05d}.png"), np.zeros((*SIZE, 3), np.uint8))
    one, other = ("BigFishA", [mask([0, 1]), mask([1])]), ("SmallFishA", [mask([5]), mask([6])])
    whole = ("BigFishA", [mask([0, 1]), mask([1, 2, 3])])
    write_objects(tmp_path / "test" / "00007" / "objects.json", [(3, *one), (4, *other)])
    write_objects(tmp_path / "test_objects" / "00007_object3" / "objects.json", [(3, *whole)])
    write_objects(tmp_path / "test_objects" / "00007_object4" / "objects.json", [(4, *other)])
    return tmp_path


def test_read_fishbowl_joins_visible_and_amodal_masks(root):
    (video,) = read_fishbowl(root, "test", root)
    assert (video.name, video.height, video.width) == ("00007", *SIZE)
    assert video.file_names == ["test_frames/00007/00000.png", "test_frames/00007/00001.png"]
    category, frames = video.tracks[3]
    assert category == "BigFishA"
    np.testing.assert_equal(decode_rle(frames[1].visible), mask([1]))
    np.testing.assert_equal(decode_rle(frames[1].amodal), mask([1, 2, 3]))


def test_read_fishbowl_class_agnostic_has_one_category(root):
    (video,) = read_fishbowl(root, "test", root, species=False)
    assert {category for category, _ in video.tracks.values()} == {"fish"}


def test_read_fishbowl_fish_never_rendered_alone_is_an_error(root):
    shutil.rmtree(root / "test_objects" / "00007_object4")
    with pytest.raises(AnnotationError, match=r"every fish rendered alone .* got none of \[4\]"):
        list(read_fishbowl(root, "test", root))


def test_read_fishbowl_masks_of_other_length_name_file(root):
    file = root / "test" / "00007" / "objects.json"
    data = json.loads(file.read_text())
    data[1]["masks"].pop()
    file.write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=r"expected 2 masks.*got 1 .*key \[1\]\.masks"):
        list(read_fishbowl(root, "test", root))


def test_read_fishbowl_other_split_is_an_error(root):
    with pytest.raises(FileNotFoundError, match=r"train/<video>/objects\.json, got none"):
        list(read_fishbowl(root, "train", root))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[0], "expected a list of objects, got dict"),
        (lambda data: [data[0], data[0]], r"expected unique ids, got \[3, 3\]"),
        (lambda data: [data[0] | {"id": [1]}], r"objects with id, type_name.*key \[0\]"),
    ],
    ids=["no-list", "twice", "id"],
)
def test_read_fishbowl_broken_objects_name_file(root, change, message):
    file = root / "test" / "00007" / "objects.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(AnnotationError, match=message):
        list(read_fishbowl(root, "test", root))
