from __future__ import annotations

import json

import pytest

from amodal2.evaluation.prediction_files import load_video_predictions, video_name
from amodal2.utils.errors import AnnotationError
from tests.structures.toy_videos import CRAB, FISH, SIZE, bar, dataset, prediction, track, tube


@pytest.fixture
def truth(tmp_path):
    return dataset(tmp_path, track(1), track(2, video=2), videos=2)


def tracks_file(folder, name: str, categories: dict | None = None, file_name: str | None = None):
    """Write what the demo writes for one video, with ids of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    categories = {0: "fish", 1: "crab"} if categories is None else categories
    content = {
        "videos": [
            {
                "id": 1,
                "height": SIZE[0],
                "width": SIZE[1],
                "length": 3,
                "file_name": file_name or name,
            }
        ],
        "categories": [{"id": key, "name": value} for key, value in categories.items()],
        "annotations": [
            prediction(0.5, category=key, id=key + 1, segmentations=tube(bar(0, 10)))
            for key in categories
        ],
    }
    path = folder / "tracks.json"
    path.write_text(json.dumps(content))
    return path


def test_load_video_predictions_plain_list_is_passed_on(tmp_path, truth):
    records = [prediction(0.5, segmentations=tube(bar(0, 10)))]
    path = tmp_path / "pred.json"
    path.write_text(json.dumps(records))
    assert load_video_predictions([path], truth) == records


def test_load_video_predictions_folder_of_tracks_is_matched_by_name(tmp_path, truth):
    tracks_file(tmp_path / "out" / "b", "clip2.mp4")
    tracks_file(tmp_path / "out" / "a", "some/where/clip1")
    records = load_video_predictions([tmp_path / "out"], truth)
    assert [(record["video_id"], record["category_id"]) for record in records] == [
        (1, FISH),
        (1, CRAB),
        (2, FISH),
        (2, CRAB),
    ]


@pytest.mark.parametrize(
    ("name", "categories", "message"),
    [
        ("clip9.mp4", None, r"one video named 'clip9' .*clip1, clip2.*got 0"),
        ("clip1.mp4", {0: "whale"}, r"categories among \['crab', 'fish'\], got 'whale'"),
    ],
)
def test_load_video_predictions_without_counterpart_raises(
    tmp_path, truth, name, categories, message
):
    path = tracks_file(tmp_path / "out", name, categories)
    with pytest.raises(AnnotationError, match=message):
        load_video_predictions([path], truth)


def test_load_video_predictions_other_categories_are_left_out_and_told(tmp_path, truth, caplog):
    path = tracks_file(tmp_path / "out", "clip1.mp4", {0: "whale", 1: "fish", 2: "squid"})
    (record,) = load_video_predictions([path], truth)
    assert record["category_id"] == FISH
    assert "2 predictions of categories that the ground truth does not have (whale, squid)" in (
        caplog.text
    )


def test_load_video_predictions_video_given_twice_raises(tmp_path, truth):
    files = [tracks_file(tmp_path / name, "clip1.mp4") for name in "ab"]
    with pytest.raises(AnnotationError, match="tracks of a video once"):
        load_video_predictions(files, truth)


def test_load_video_predictions_track_of_unlisted_video_raises(tmp_path, truth):
    path = tracks_file(tmp_path / "out", "clip1.mp4")
    content = json.loads(path.read_text())
    content["annotations"][0]["video_id"] = 5
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="expected a video_id listed in the same file, got 5"):
        load_video_predictions([path], truth)


@pytest.mark.parametrize("text", ["", "3", '{"videos": []}'])
def test_load_video_predictions_other_json_raises(tmp_path, truth, text):
    path = tmp_path / "pred.json"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=r"load_video_predictions: expected .*pred\.json"):
        load_video_predictions([path], truth)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("videos", 0), 3, r"expected an object, got 3 .*videos\[0\]"),
        (("videos", 0, "id"), [1], r"an integer id, got \[1\] .*videos\[0\]\.id"),
        (("videos", 0, "file_name"), None, r"a file_name or a list of file_names, got neither"),
        (("videos", 0, "file_name"), 7, r"a file_name or a list of file_names, got neither"),
        (("categories", 1), "crab", r"expected an object, got 'crab' .*categories\[1\]"),
        (("categories", 1, "id"), None, r"an integer id, got None .*categories\[1\]\.id"),
        (("categories", 1, "name"), ["crab"], r"expected categories among .*got \['crab'\]"),
        (("annotations", 1), [], r"expected an object, got \[\] .*annotations\[1\]"),
        (("annotations", 0, "video_id"), {}, r"an integer video_id, got \{\}"),
        (("annotations", 0, "category_id"), [0], r"an integer category_id, got \[0\]"),
    ],
)
def test_load_video_predictions_malformed_entry_is_named(tmp_path, truth, place, value, message):
    path = tracks_file(tmp_path / "out", "clip1.mp4")
    data = json.loads(path.read_text())
    target = data
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    path.write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=message):
        load_video_predictions([path], truth)


def test_load_video_predictions_absent_path_or_empty_folder_raises(tmp_path, truth):
    with pytest.raises(FileNotFoundError, match="no such path"):
        load_video_predictions([tmp_path / "absent"], truth)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"tracks\.json files below"):
        load_video_predictions([tmp_path / "empty"], truth)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ({"file_name": "a/b/clip.one.mp4"}, "clip.one"),
        ({"file_name": "clip.v1"}, "clip.v1"),
        ({"file_name": "clip.v1.MKV"}, "clip.v1"),
        ({"file_names": ["a/clip.v1/0.png"]}, "clip.v1"),
        ({"file_names": ["reef1/frames/0.png"]}, "reef1"),
        ({"file_names": ["frames/0.png"]}, "frames"),
        ({"file_names": ["a/clip/0.png", "a/clip/1.png"]}, "clip"),
    ],
)
def test_video_name_is_stem_or_folder(entry, name):
    assert video_name(entry) == name


@pytest.mark.parametrize("kind", ["videos", "categories"])
def test_load_video_predictions_id_twice_in_tracks_file_raises(tmp_path, truth, kind):
    """The second entry would take the tracks of the first one."""
    path = tracks_file(tmp_path / "out", "clip1.mp4")
    content = json.loads(path.read_text())
    second = {"videos": {"file_name": "clip2.mp4"}, "categories": {"name": "crab"}}[kind]
    content[kind] = [content[kind][0], content[kind][0] | second]
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=r"unique (video|category) ids, got \d twice"):
        load_video_predictions([path], truth)


def test_load_video_predictions_number_as_file_name_raises(tmp_path, truth):
    path = tracks_file(tmp_path / "out", "clip1.mp4")
    content = json.loads(path.read_text())
    content["videos"][0] |= {"file_name": 5, "file_names": ["clip1/0.png"]}
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="a file_name or a list of file_names"):
        load_video_predictions([path], truth)
