import json
from collections import Counter

import numpy as np
import pytest

from amodal2.data.importers.sailvos import read_sailvos
from amodal2.structures.rle import decode_rle, encode_mask
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import AnnotationError
from tests.datasets.test_prepare_images import run

SIZE = (4, 6)


def mask(columns):
    array = np.zeros(SIZE, dtype=bool)
    array[:, columns] = True
    return encode_mask(array)


def record(obj_id, category_id, start=100, visible=(0, 1)):
    ids = list(range(start, start + 25))
    return {
        "segmentation": [mask([0, 1, 2])] * 25,
        "visible_mask": [mask(list(visible))] * 25,
        "bbox": [[0, 0, 3, 4]] * 25,
        "image_ids": ids,
        "image_file_names": [f"ah_3a/images/{index:06d}.bmp" for index in ids],
        "obj_id": obj_id,
        "category_id": category_id,
    }


def write(folder, records, split="train"):
    file = folder / f"diffusion_vas_sailvos_{split}.json"
    file.write_text(json.dumps(records))
    return file


def test_read_sailvos_objects_of_the_same_frames_share_a_video(tmp_path):
    file = write(tmp_path, [record(7, 3), record(8, 5), record(7, 3, start=125)])
    report = Counter()
    first, second = read_sailvos(file, "SAILVOS_2D", report)
    assert sorted(first.tracks) == [7, 8]
    assert sorted(second.tracks) == [7]
    assert (first.height, first.width, len(first.file_names)) == (*SIZE, 25)
    assert first.file_names[1] == "SAILVOS_2D/ah_3a/images/000101.bmp"
    category, frames = first.tracks[7]
    assert category == "object"
    assert np.flatnonzero(decode_rle(frames[24].visible)[0]).tolist() == [0, 1]
    assert np.flatnonzero(decode_rle(frames[24].amodal)[0]).tolist() == [0, 1, 2]
    assert report["sequences (one object in one video)"] == 3


def test_read_sailvos_names_give_categories(tmp_path):
    file = write(tmp_path, [record(7, 3), record(8, 5)])
    (video,) = read_sailvos(file, "", Counter(), {3: "person", 5: "car"})
    assert [category for category, _ in video.tracks.values()] == ["person", "car"]
    with pytest.raises(AnnotationError, match=r"1 named category ids, got 5.*key \[1\]\.category"):
        list(read_sailvos(file, "", Counter(), {3: "person"}))


def test_read_sailvos_unnamed_categories_are_left_out_on_request(tmp_path):
    file = write(tmp_path, [record(7, 3), record(8, 5), record(9, 5, start=125)])
    report = Counter()
    (video,) = read_sailvos(file, "", report, {3: "person"}, skip_unnamed=True)
    assert list(video.tracks) == [7]
    assert report["sequences of categories without a name, left out"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"visible_mask": [mask([0])] * 24},
            r"list of 25 entries, got 24.*_train\.json, key \[1\]\.",
        ),
        ({"segmentation": None}, r"list of 25 entries, got None.*key \[1\]\.segmentation"),
        (
            {"visible_mask": [{"size": [4, 6], "counts": "9"}] * 25},
            r"runs.*key \[1\]\.visible_mask\[0\]",
        ),
        ({"obj_id": [7]}, r"ids or names, got \[7\].*key \[1\]\.obj_id"),
        ({"image_ids": [[]] * 25}, r"ids or names, got .*key \[1\]\.image_ids"),
        ({"obj_id": 7}, r"object 7 once in the frames from ah_3a.*key \[1\]\.obj_id"),
    ],
)
def test_read_sailvos_broken_record_is_named(tmp_path, change, message):
    file = write(tmp_path, [record(7, 3), record(8, 3) | change])
    with pytest.raises(AnnotationError, match=message):
        list(read_sailvos(file, "", Counter()))


def test_read_sailvos_missing_key_is_named(tmp_path):
    broken = record(7, 3)
    del broken["image_file_names"]
    with pytest.raises(AnnotationError, match=r"with image_file_names, got none.*key \[0\]\."):
        list(read_sailvos(write(tmp_path, [broken]), "", Counter()))


def test_read_sailvos_other_layout_names_the_option_for_raw(tmp_path):
    with pytest.raises(AnnotationError, match="got dict; the raw SAIL-VOS needs --raw"):
        list(read_sailvos(write(tmp_path, {"images": []}), "", Counter()))


def test_prepare_sailvos_writes_both_splits_and_compares_counts(tmp_path, caplog):
    write(tmp_path, [record(7, 3), record(8, 5)])
    write(tmp_path, [record(1, 3)], "val")
    assert run("prepare_sailvos", "--root", tmp_path) == 0
    assert "sequences: 21237 published, 3 found" in caplog.text
    dataset = read_video_json(tmp_path / "train.json", strict=True)
    assert [entry["name"] for entry in dataset.categories] == ["object"]
    assert [len(dataset.videos), len(dataset.annotations)] == [1, 2]
    assert dataset.annotations[0]["occlusion_rates"][0] == pytest.approx(1 / 3)


def test_prepare_sailvos_windows_may_share_their_first_frame(tmp_path):
    other = record(8, 5)
    other["image_ids"] = [*other["image_ids"][:-1], 999]
    write(tmp_path, [record(7, 3), other])
    assert run("prepare_sailvos", "--root", tmp_path, "--split", "train") == 0
    assert len(read_video_json(tmp_path / "train.json").videos) == 2


def test_prepare_sailvos_names_keep_the_order_of_ids(tmp_path):
    write(tmp_path, [record(7, 30), record(8, 5)])
    (tmp_path / "names.json").write_text(json.dumps({"30": "car", "5": "person"}))
    options = ["--split", "train", "--names", tmp_path / "names.json"]
    assert run("prepare_sailvos", "--root", tmp_path, *options) == 0
    dataset = read_video_json(tmp_path / "train.json")
    assert [entry["name"] for entry in dataset.categories] == ["person", "car"]


def test_prepare_sailvos_missing_file_ends_with_status_two(tmp_path, caplog):
    write(tmp_path, [record(7, 3)])
    assert run("prepare_sailvos", "--root", tmp_path) == 2
    assert "no such file" in caplog.text
