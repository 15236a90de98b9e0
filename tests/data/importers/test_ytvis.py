import json

import numpy as np
import pytest

from amodal2.data.importers.ytvis import read_ytvis
from amodal2.structures.rle import decode_rle
from amodal2.utils.errors import AnnotationError
from tests.datasets.test_prepare_images import run


def write(folder, person, count=40, tracks=1):
    names = [f"kind {index}" for index in range(1, count + 1)]
    names[person - 1] = "person"
    track = {
        "id": 4,
        "video_id": 2,
        "category_id": person,
        "iscrowd": 0,
        "segmentations": [{"size": [2, 3], "counts": [1, 2, 3]}, None],
    }
    video = {"id": 2, "width": 3, "height": 2, "length": 2}
    video["file_names"] = ["abc/00000.jpg", "abc/00005.jpg"]
    data = {
        "videos": [video],
        "categories": [{"id": index, "name": name} for index, name in enumerate(names, start=1)],
        "annotations": [track] * tracks,
    }
    (folder / "instances.json").write_text(json.dumps(data))
    return folder / "instances.json"


@pytest.mark.parametrize(
    ("person", "count", "release"),
    [(1, 40, "YouTube-VIS 2019"), (26, 40, "YouTube-VIS 2021"), (1, 25, "OVIS")],
)
def test_read_ytvis_recognises_the_release(tmp_path, person, count, release):
    found, names, videos = read_ytvis(write(tmp_path, person, count), "train/JPEGImages")
    (video,) = videos
    assert (found, len(names)) == (release, count)
    assert video.file_names[1] == "train/JPEGImages/abc/00005.jpg"
    category, frames = video.tracks[4]
    assert category == "person"
    np.testing.assert_equal(decode_rle(frames[0].visible), [[0, 1, 0], [1, 0, 0]])


def test_read_ytvis_other_categories_are_an_error(tmp_path):
    with pytest.raises(AnnotationError, match="got 12: person, kind 2"):
        read_ytvis(write(tmp_path, 1, 12), "train")


def test_read_ytvis_file_without_annotations_says_why(tmp_path):
    with pytest.raises(AnnotationError, match="validation and test sets are not public"):
        read_ytvis(write(tmp_path, 1, tracks=0), "train")


def test_prepare_ytvis_keeps_category_ids_and_has_no_amodal_keys(tmp_path):
    out = tmp_path / "train.json"
    assert run("prepare_ytvis", write(tmp_path, 26), "--out", out) == 0
    (track,) = json.loads(out.read_text())["annotations"]
    assert track["category_id"] == 26
    assert "amodal_segmentations" not in track


def test_prepare_ytvis_keeps_named_categories_under_new_names(tmp_path):
    source = write(tmp_path, 1, count=25)
    data = json.loads(source.read_text())
    other = data["videos"][0] | {"id": 3}
    data["videos"].append(other)
    data["annotations"].append(data["annotations"][0] | {"id": 5, "video_id": 3, "category_id": 2})
    source.write_text(json.dumps(data))
    out = tmp_path / "two.json"
    names = ["--categories", "kind 25=car", "person"]
    assert run("prepare_ytvis", source, "--out", out, *names) == 0
    written = json.loads(out.read_text())
    assert [entry["name"] for entry in written["categories"]] == ["car", "person"]
    assert len(written["videos"]) == 1
    assert [track["category_id"] for track in written["annotations"]] == [2]


def test_read_ytvis_unknown_category_to_keep_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"expected categories of OVIS .* got \['Car'\]"):
        read_ytvis(write(tmp_path, 1, 25), "train", {"Car": "car"})
