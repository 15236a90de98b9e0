import json
import os
import pickle
from collections import Counter

import cv2
import numpy as np
import pytest

from amodal2.data.importers.kins_video_car import match_images, read_kins_video_car
from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import decode_rle, encode_mask
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import AnnotationError
from tests.datasets.test_prepare_images import run

SIZE = (6, 10)
NAME = "2011_09_26_drive_0005_sync"


def mask(columns):
    array = np.zeros(SIZE, dtype=bool)
    array[1:4, columns] = True
    rle = encode_mask(array)
    return {"size": rle["size"], "counts": rle["counts"].encode()}


def entry(columns):
    return {"VM": mask(columns), "VM_bbox": np.array([1, 3, 0, 4]), "loss_mask": mask([9])}


def tracks():
    """Track 4 in frames 2 to 13, track 7 in frame 3 only."""
    return {NAME: {4: {t: entry([0, 1]) for t in range(2, 14)}, 7: {3: entry([6, 7, 8])}}}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "Kitti" / "raw_video" / "2011_09_26" / NAME
    folder.mkdir(parents=True)
    for index in range(15):
        image = np.full((*SIZE, 3), index * 10, np.uint8)
        image[:, index % 10] = 200
        cv2.imwrite(str(folder / f"{index:010d}.png"), image)
    write(tmp_path, tracks())
    return tmp_path


def write(root, data):
    (root / "car_data").mkdir(exist_ok=True)
    (root / "car_data" / "test_data.pkl").write_bytes(pickle.dumps(data))


def test_read_kins_video_car_takes_the_frames_with_tracks(root):
    report = Counter()
    (video,) = read_kins_video_car(root, "test", root, report)
    assert (video.name, video.height, video.width) == (NAME, *SIZE)
    assert len(video.file_names) == 12
    assert video.file_names[0] == f"Kitti/raw_video/2011_09_26/{NAME}/0000000002.png"
    category, frames = video.tracks[7]
    assert (category, list(frames)) == ("car", [1])
    assert np.flatnonzero(decode_rle(frames[1].visible)[1]).tolist() == [6, 7, 8]
    assert frames[1].amodal is None
    assert report["tracks of less than 10 frames"] == 1


def test_read_kins_video_car_counts_tracks_with_gaps(root):
    data = tracks()
    del data[NAME][4][5]
    write(root, data)
    report = Counter()
    list(read_kins_video_car(root, "test", root, report))
    assert report["tracks with gaps in time"] == 1


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_read_kins_video_car_pickle_with_code_is_refused_and_not_run(root):
    target = root / "made_by_pickle"
    write(root, {NAME: Evil(str(target))})
    with pytest.raises(AnnotationError, match=r"plain data, got Unpick.*mkdir.*test_data\.pkl"):
        list(read_kins_video_car(root, "test", root, Counter()))
    assert not target.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "a dict of tracks, got list"),
        ({}, "a dict of tracks, got an empty one"),
        ({NAME: []}, f"a dict, got list.*key {NAME}"),
        ({NAME: {4: {}}}, f"frames with masks, got none.*key {NAME}"),
        ({NAME: {4: {2: {}}}}, rf"RLE with size and counts, got None.*key {NAME}\.4"),
        ({NAME: {4: {-1: entry([0])}}}, rf"number of a frame, got -1.*key {NAME}\.4"),
        ({NAME: {4: {2: entry([0]), 10**9 - 1: entry([0])}}}, "frames 2 to 999999999 "),
        ({NAME: {4: {40: entry([0])}}}, rf"frames 40 to 40 .* none of \[40\].*key {NAME}"),
        (
            {NAME: {4: {2: entry([0]), 3: {"VM": {"size": [6, 10], "counts": b"9"}}}}},
            rf"runs.*key {NAME}\.4\.3\.VM",
        ),
        (
            {NAME: {4: {2: entry([0]), 3: {"VM": {"size": [6, 9], "counts": b"f1"}}}}},
            rf"RLE size \[6, 10\].*key {NAME}\.4\.3\.VM",
        ),
    ],
)
def test_read_kins_video_car_broken_part_is_named(root, data, message):
    write(root, data)
    with pytest.raises(AnnotationError, match=message):
        list(read_kins_video_car(root, "test", root, Counter()))


def test_read_kins_video_car_without_frames_or_pickle_says_where(root):
    write(root, {"2011_09_28_drive_1_sync": {4: {2: entry([0])}}})
    with pytest.raises(FileNotFoundError, match=r"raw_video/2011_09_28/2011_09_28_drive_1_sync"):
        list(read_kins_video_car(root, "test", root, Counter()))
    with pytest.raises(FileNotFoundError, match=r"val_data\.pkl"):
        list(read_kins_video_car(root, "val", root, Counter()))


def test_match_images_compares_contents_not_names(tmp_path):
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"else")
    (tmp_path / "c").write_bytes(b"same")
    (tmp_path / "d").write_bytes(b"longer")
    found = match_images([tmp_path / "b", tmp_path / "c", tmp_path / "d"], [tmp_path / "a"])
    assert found == {"a": tmp_path / "c"}


def write_kins(root):
    """Image 11 is frame 3 of the video; image 12 is none. Object 2 has no track."""
    folder = root / "image_2"
    folder.mkdir()
    source = root / "Kitti" / "raw_video" / "2011_09_26" / NAME
    (folder / "000011.png").write_bytes((source / "0000000003.png").read_bytes())
    cv2.imwrite(str(folder / "000012.png"), np.full((*SIZE, 3), 77, np.uint8))
    images = [
        {"id": index, "file_name": f"{index:06d}.png", "height": SIZE[0], "width": SIZE[1]}
        for index in (11, 12)
    ]
    annotations = [
        {
            "id": number,
            "image_id": 11,
            "category_id": 4,
            "segmentation": [[x, 1, 10, 1, 10, 4, x, 4]],
            "inmodal_seg": {**mask(columns), "counts": mask(columns)["counts"].decode()},
        }
        for number, x, columns in ((1, 5, [6, 7, 8]), (2, 2, [4]))
    ]
    (root / "instances_train.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": []})
    )


def test_prepare_kins_video_car_writes_tracks_and_ground_truth(root, caplog):
    caplog.set_level("INFO")
    write_kins(root)
    kins = ["--kins", root / "instances_train.json", "--kins-images", root / "image_2"]
    assert run("prepare_kins_video_car", "--root", root, "--split", "test", *kins) == 0
    dataset = read_video_json(root / "test.json", strict=True)
    assert not dataset.has("amodal_segmentations")
    assert len(dataset.annotations) == 2
    truth = read_image_json(root / "test_kins.json", strict=True)
    (image,) = truth.images
    assert image["file_name"] == dataset.videos[0]["file_names"][1]
    one, other = truth.annotations
    assert one["source"] == {"id": 1, "video": NAME, "frame": 1, "track": 7, "track_iou": 1.0}
    assert one["amodal_area"] > one["visible_area"]
    assert other["source"] == {"id": 2}
    for text in ("1 images of KINS left out, in no video", "1 objects without a track"):
        assert text in caplog.text


def test_prepare_kins_video_car_one_of_two_options_is_an_error(root, capsys):
    with pytest.raises(SystemExit):
        run("prepare_kins_video_car", "--root", root, "--split", "test", "--kins", "a.json")
    assert "--kins and --kins-images together" in capsys.readouterr().err
