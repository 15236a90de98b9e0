import json

import numpy as np
import pytest

from amodal2.data.importers.box_import import BoxImport
from amodal2.data.importers.burst import read_burst
from amodal2.data.importers.tao_amodal import read_tao_amodal
from amodal2.structures.rle import decode_rle, encode_mask
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import AnnotationError
from tests.datasets.test_prepare_images import run

SIZE = (6, 10)
VIDEO = "val/BDD/b1c66a42"


def mask(columns):
    array = np.zeros(SIZE, dtype=bool)
    array[1:4, columns] = True
    return encode_mask(array)


def tao(formal):
    """Two frames, listed in the wrong order; track 31 leaves the frame, 32 is in the first only."""
    images = [
        {"id": 8, "video_id": 5, "file_name": f"{VIDEO}/0030.jpg", "frame_index": 30},
        {"id": 7, "video_id": 5, "file_name": f"{VIDEO}/0000.jpg", "frame_index": 0},
    ]
    annotations = [
        {"id": 1, "image_id": 7, "track_id": 31, "category_id": 805, "visibility": 0.5},
        {"id": 2, "image_id": 8, "track_id": 31, "category_id": 805, "visibility": 0.0},
        {"id": 3, "image_id": 7, "track_id": 32, "category_id": 94, "visibility": 1.0},
    ]
    boxes = [[-4.5, 1, 8, 3], [-7, 1, 8, 3], [6, 1, 2, 3]]
    for record, box in zip(annotations, boxes, strict=True):
        record["amodal_bbox" if formal else "bbox"] = box
    if formal:
        annotations[0]["bbox"] = [0, 1, 3.5, 3]
    else:
        annotations[0]["out_of_frame"] = True
    video = {"id": 5, "name": VIDEO, "neg_category_ids": [3], "not_exhaustive_category_ids": [94]}
    return {
        "images": [{**image, "height": SIZE[0], "width": SIZE[1]} for image in images],
        "videos": [video],
        "tracks": [],
        "annotations": annotations,
        "categories": [
            {"id": 805, "name": "person", "frequency": "f", "def": "x"},
            {"id": 94, "name": "bicycle", "frequency": "c"},
        ],
    }


def burst():
    sequence = {
        "width": SIZE[1],
        "height": SIZE[0],
        "seq_name": "b1c66a42",
        "dataset": "BDD",
        "annotated_image_paths": ["0000.jpg", "0015.jpg"],
        "segmentations": [
            {"1": {"rle": mask([0, 1])["counts"]}, "2": {"rle": mask([0])["counts"]}},
            {"1": {"rle": mask([5])["counts"]}},
        ],
    }
    return {"sequences": [sequence], "categories": [], "split": "val"}


def sequence(track_id, **others):
    return {
        "track_id": track_id,
        "category_id": 805,
        "video_id": 5,
        "height": SIZE[0],
        "width": SIZE[1],
        "file_names": [f"{VIDEO}/{index:04d}.jpg" for index in range(25)],
        "rles": [mask([0, 1])["counts"]] * 25,
        "amodal_bboxes": [[-4, 1, 8, 3]] * 25,
        **others,
    }


def write(folder, data, name="a.json"):
    (folder / name).write_text(json.dumps(data))
    return folder / name


def read(folder, data, masks=None):
    collected = BoxImport()
    masks = None if masks is None else read_burst(write(folder, masks, "burst.json"))
    layout, videos = read_tao_amodal(write(folder, data), "frames", collected, masks)
    return layout, list(videos), collected


@pytest.mark.parametrize("formal", [True, False])
def test_read_tao_amodal_tells_the_layouts_apart(tmp_path, formal):
    layout, (video,), collected = read(tmp_path, tao(formal))
    assert layout == ("annotations" if formal else "evaluation")
    assert video.image_ids == [7, 8]
    assert video.file_names == [f"frames/{VIDEO}/0000.jpg", f"frames/{VIDEO}/0030.jpg"]
    assert (video.neg_category_ids, video.not_exhaustive_category_ids) == ([3], [94])
    category, frames = video.tracks[31]
    assert category == 805
    assert frames[0].amodal == (-4.5, 1, 8, 3)
    assert frames[0].visible == ((0, 1, 3.5, 3) if formal else None)
    assert frames[0].out_of_frame is (None if formal else True)
    assert [frames[t].visibility for t in (0, 1)] == [0.5, 0.0]
    assert collected.categories[94] == {"id": 94, "name": "bicycle", "frequency": "c"}


def test_read_tao_amodal_masks_are_found_by_file_and_number_in_the_video(tmp_path):
    _, (video,), _ = read(tmp_path, tao(False), burst())
    first, second = (video.tracks[key][1] for key in (31, 32))
    assert np.flatnonzero(decode_rle(first[0].mask)[1]).tolist() == [0, 1]
    assert first[1].mask is None
    assert np.flatnonzero(decode_rle(second[0].mask)[1]).tolist() == [0]


def test_read_tao_amodal_sequences_of_the_same_frames_share_a_video(tmp_path):
    layout, (video,), collected = read(tmp_path, [sequence(3), sequence(4)])
    assert layout == "sequences"
    assert sorted(video.tracks) == [3, 4]
    assert video.tracks[4][1][24].amodal == (-4, 1, 8, 3)
    assert collected.report["videos of the source"] == 1


def test_read_tao_amodal_lists_of_images_count_where_the_video_has_none(tmp_path):
    data = tao(False)
    for key in ("neg_category_ids", "not_exhaustive_category_ids"):
        del data["videos"][0][key]
    for image in data["images"]:
        image["neg_category_ids"] = [9]
    _, (video,), _ = read(tmp_path, data)
    assert (video.neg_category_ids, video.not_exhaustive_category_ids) == ([9], [])
    data["images"][1]["neg_category_ids"] = []
    with pytest.raises(AnnotationError, match=r"the same neg_category_ids.*video 5, key neg_cat"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ("annotations", {"image_id": 99}, r"listed image_id, got 99.*annotation 1, key image_id"),
        ("annotations", {"bbox": [0, 1, 2]}, r"4 finite numbers.*annotation 1, key bbox"),
        ("annotations", {"image_id": 8}, r"one box per frame for track 31.*video 5, annotation 2"),
        ("annotations", {"track_id": None}, r"an integer track_id, got None.*annotation 1"),
        ("annotations", {"visibility": "1"}, r"a number, got '1'.*annotations\[0\]\.visibility"),
        ("annotations", {"bbox": [0, 0, 1e9, 1e9]}, r"area of at most 1e\+10.*key bbox"),
        ("images", {"id": 7}, r"unique ids, got 7 twice.*key images"),
        ("images", {"height": 0}, r"pixels above 0, got 0.*key images\[0\]\.height"),
        ("videos", {"neg_category_ids": 3}, r"a list of category ids, got 3.*key videos\[0\]"),
        ("categories", {"name": "bicycle"}, r"unique category ids and names.*key categories"),
        ("images", {"video_id": 6}, r"listed video_id, got 6.*image 8, key video_id"),
    ],
)
def test_read_tao_amodal_broken_entry_is_named(tmp_path, where, change, message):
    data = tao(False)
    data[where][0].update(change)
    with pytest.raises(AnnotationError, match=message):
        read(tmp_path, data)


def test_read_tao_amodal_other_files_are_refused(tmp_path):
    data = tao(False)
    for record in data["annotations"]:
        del record["visibility"]
    with pytest.raises(AnnotationError, match="TAO itself have modal boxes only"):
        read(tmp_path, data)
    with pytest.raises(AnnotationError, match=r"lists videos, images.*key videos"):
        read(tmp_path, {"images": []})


def test_read_tao_amodal_missing_key_is_named(tmp_path):
    data = tao(False)
    del data["images"][1]["frame_index"]
    with pytest.raises(AnnotationError, match=r"with frame_index.*key images\[1\]\.frame_index"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rles": ["9"]}, r"list of 25 entries, got 1.*a\.json, key \[1\]\.rles"),
        ({"rles": ["9"] * 25}, r"runs.*key \[1\]\.rles\[0\]"),
        ({"file_names": [0] * 25}, r"expected paths, got \[0.*key \[1\]\.file_names"),
        ({"width": None}, r"pixels above 0, got None.*key \[1\]\.width"),
        ({"video_id": []}, r"an integer video_id, got \[\].*key \[1\]\.video_id"),
        ({"track_id": 3}, r"track 3 once.*key \[1\]\.track_id"),
    ],
)
def test_read_tao_amodal_broken_sequence_is_named(tmp_path, change, message):
    with pytest.raises(AnnotationError, match=message):
        read(tmp_path, [sequence(3), sequence(4) | change])


def test_read_burst_broken_masks_are_named(tmp_path):
    data = burst()
    data["sequences"][0]["segmentations"][1]["1"] = {"score": 1}
    with pytest.raises(AnnotationError, match=r"with rle.*burst\.json, key BDD/b1c66a42: seg.*\.1"):
        read(tmp_path, tao(False), data)
    data["sequences"][0]["segmentations"][1] = {"1x": {"rle": "9"}}
    with pytest.raises(AnnotationError, match=r"numbers of tracks, got \['1x'\].*segmentations\[1"):
        read(tmp_path, tao(False), data)
    data["sequences"][0]["segmentations"][1] = []
    with pytest.raises(AnnotationError, match=r"a list of objects by track.*key sequences\[0\]"):
        read(tmp_path, tao(False), data)
    del data["sequences"][0]["segmentations"][1]
    with pytest.raises(AnnotationError, match=r"2 entries.*got 1.*key sequences\[0\]\.segm"):
        read(tmp_path, tao(False), data)
    del data["sequences"][0]["dataset"]
    with pytest.raises(AnnotationError, match=r"got none of \['dataset'\].*key sequences\[0\]"):
        read(tmp_path, tao(False), data)


def test_prepare_tao_amodal_writes_boxes_beyond_the_frame_and_masks(tmp_path, caplog):
    caplog.set_level("INFO")
    file, masks = write(tmp_path, tao(False)), write(tmp_path, burst(), "burst.json")
    out = tmp_path / "val.json"
    assert run("prepare_tao_amodal", file, "--masks", masks, "--out", out) == 0
    assert "videos: 988 published, 1 found" in caplog.text
    assert "2 boxes beyond the frame" in caplog.text
    assert "2 categories with tracks" in caplog.text
    assert "1 masks left out, outside their amodal box" in caplog.text
    dataset = read_video_json(out, strict=True)
    one, other = dataset.annotations
    assert [one["id"], other["id"]] == [1, 2]
    assert one["source"] == {"track_id": 31}
    assert one["amodal_bboxes"] == [[-4.5, 1, 8, 3], [-7, 1, 8, 3]]
    assert one["bboxes"] == [[0, 1, 2, 3], None]
    assert one["visibilities"] == [0.5, 0.0]
    assert one["out_of_frame"] == [True, None]
    assert other["segmentations"] == [None, None]
    assert dataset.videos[0]["image_ids"] == [7, 8]
    assert {entry["id"]: entry["frequency"] for entry in dataset.categories} == {94: "c", 805: "f"}


def test_prepare_tao_amodal_leaves_out_and_counts_boxes_without_area(tmp_path, caplog):
    caplog.set_level("INFO")
    data = tao(True)
    data["annotations"][2]["amodal_bbox"] = [1, 1, 0, 3]
    data["annotations"][1]["amodal_bbox"] = None
    out = tmp_path / "val.json"
    assert run("prepare_tao_amodal", write(tmp_path, data), "--out", out) == 0
    for text in (
        "1 boxes left out, without area",
        "1 tracks left out, without any box",
        "1 annotations left out, without an amodal box",
    ):
        assert text in caplog.text
    (track,) = read_video_json(out).annotations
    assert track["visible_bboxes"] == [[0, 1, 3.5, 3], None]


def test_prepare_tao_amodal_sequences_compare_with_diffusion_vas(tmp_path, caplog):
    out = tmp_path / "sequences.json"
    assert run("prepare_tao_amodal", write(tmp_path, [sequence(3)]), "--out", out) == 0
    assert "sequences (one object in one video): 1392 published, 1 found" in caplog.text


def test_prepare_tao_amodal_unlisted_category_ends_with_status_two(tmp_path, caplog):
    data = tao(False)
    data["annotations"][2]["category_id"] = 1
    file, out = write(tmp_path, data), tmp_path / "val.json"
    assert run("prepare_tao_amodal", file, "--out", out) == 2
    assert "listed category id, got 1 (track 32) [video 5, key category_id]" in caplog.text
    assert not out.exists()
