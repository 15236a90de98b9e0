import json
import pickle

import cv2
import numpy as np
import pytest

from amodal2.data.importers.fishbowl_savos import find_pickle, read_fishbowl_savos
from amodal2.structures.rle import decode_rle, encode_mask
from amodal2.utils.errors import AnnotationError
from tests.datasets.test_prepare_images import run

SIZE = (6, 8)


def mask(columns):
    array = np.zeros(SIZE, dtype=bool)
    array[1:5, columns] = True
    rle = encode_mask(array)
    return [{"size": rle["size"], "counts": rle["counts"].encode()}]


def entry(**changes):
    found = {"FM": mask([1, 2, 3]), "VM": mask([1]), "fish_type": "BigFishA"}
    boxes = {
        "VM_bx": np.array([1, 4, 1, 1]),
        "OCC_R": np.float64(0.5),
        "loss_mask_weight": mask([6]),
    }
    return {**found, **boxes, **changes}


def write(root, data):
    folder = root / "test_data"
    frames = folder / "test_frames" / "00007"
    frames.mkdir(parents=True, exist_ok=True)
    for index in range(3):
        cv2.imwrite(str(frames / f"{index:05d}.png"), np.zeros((*SIZE, 3), np.uint8))
    (folder / "test_data.pkl").write_bytes(pickle.dumps(data))
    return folder / "test_data.pkl"


def test_read_fishbowl_savos_has_all_frames_and_the_selected_fish(tmp_path):
    file = write(tmp_path, {"00007_3": {1: entry(), 2: entry()}, "00007_5": {0: entry()}})
    assert find_pickle(tmp_path, "test") == file
    assert find_pickle(tmp_path, "val") is None
    (video,) = read_fishbowl_savos(file, "test", tmp_path)
    assert (video.name, video.height, video.width) == ("00007", *SIZE)
    assert video.file_names[2] == "test_data/test_frames/00007/00002.png"
    category, frames = video.tracks["3"]
    assert (category, sorted(frames)) == ("BigFishA", [1, 2])
    assert np.flatnonzero(decode_rle(frames[1].visible)[1]).tolist() == [1]
    assert np.flatnonzero(decode_rle(frames[1].amodal)[1]).tolist() == [1, 2, 3]


def test_read_fishbowl_savos_class_agnostic_has_one_category(tmp_path):
    file = write(tmp_path, {"00007_3": {1: entry()}})
    (video,) = read_fishbowl_savos(file, "test", tmp_path, species=False)
    assert video.tracks["3"][0] == "fish"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"00007": {}}, r"a key <video>_<object>, got '00007'.*test_data\.pkl"),
        ({7: {1: entry()}}, r"names of videos as keys, got 7"),
        ({"00007_3": {"x": entry()}}, r"number of a frame, got 'x'.*key 00007_3\.x"),
        ({"00007_3": {1: entry(VM={"size": [0, 8], "counts": "9"})}}, r"pixels above 0, got 0"),
        ({"00007_3": {1: []}}, r"a dict, got list.*key 00007_3\.1"),
        ({"00007_3": {3: entry()}}, r"frame below 3, got 3.*key 00007_3\.3"),
        ({"00007_3": {1: {"FM": mask([1])}}}, r"expected a fish_type.*key 00007_3\.1"),
        ({"00007_3": {1: entry(VM=[])}}, r"RLE with size and counts.*key 00007_3\.1\.VM"),
        (
            {"00007_3": {1: entry(FM={"size": [6, 8], "counts": b"9"})}},
            r"runs.*key 00007_3\.1\.FM",
        ),
    ],
)
def test_read_fishbowl_savos_broken_part_is_named(tmp_path, data, message):
    with pytest.raises(AnnotationError, match=message):
        list(read_fishbowl_savos(write(tmp_path, data), "test", tmp_path))


def test_read_fishbowl_savos_truncated_pickle_names_file(tmp_path):
    file = write(tmp_path, {"00007_3": {1: entry()}})
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(AnnotationError, match=r"a complete pickle.*test_data\.pkl"):
        list(read_fishbowl_savos(file, "test", tmp_path))


def test_read_fishbowl_savos_without_frames_says_where(tmp_path):
    file = write(tmp_path, {"00008_3": {1: entry()}})
    with pytest.raises(FileNotFoundError, match=r"frames of 00008 in .*test_frames/00008"):
        list(read_fishbowl_savos(file, "test", tmp_path))


def test_prepare_fishbowl_recognises_the_pickle(tmp_path, caplog):
    caplog.set_level("INFO")
    write(tmp_path, {"00007_3": {1: entry()}})
    assert run("prepare_fishbowl", "--root", tmp_path, "--split", "test") == 0
    assert "layout: SaVos" in caplog.text
    assert "tracks: 1521 published, 1 found" in caplog.text
    (track,) = json.loads((tmp_path / "test.json").read_text())["annotations"]
    assert track["occlusion_rates"] == [None, pytest.approx(2 / 3), None]
