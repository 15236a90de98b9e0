"""From arguments to videos."""

from __future__ import annotations

import pytest

from amodal2.utils.frames import ImageSequence
from amodal2.utils.video_file import VideoFile
from amodal2.video.reader import LiveInput, VideoInput, find_inputs
from tests.utils.sample_videos import make_video
from tests.utils.test_frames import write_images


@pytest.fixture
def tree(tmp_path):
    """Two folders of images, two videos, an empty folder."""
    write_images(tmp_path / "one", ["1.png", "2.png", "10.png"])
    write_images(tmp_path / "two", ["1.png"])
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / "b.mp4", 2)
    make_video(tmp_path / "videos" / "a.mkv", 2)
    (tmp_path / "videos" / "notes.txt").write_text("no video")
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(inputs):
    return [video.name for video in inputs]


def test_find_inputs_file_is_one_video(tree):
    inputs, problems = find_inputs([str(tree / "videos/b.mp4")])
    assert (names(inputs), problems) == (["b"], [])
    assert isinstance(inputs[0].open(), VideoFile)


def test_find_inputs_folder_of_images_is_one_video(tree):
    inputs, _ = find_inputs([str(tree / "one")])
    assert names(inputs) == ["one"]
    source = inputs[0].open(fps=5)
    assert isinstance(source, ImageSequence)
    assert (source.length, source.fps) == (3, 5)


def test_find_inputs_folder_called_frames_has_the_name_of_the_one_around_it(tree):
    for name in ("reef1", "reef2"):
        (tree / name).mkdir()
        write_images(tree / name / "frames", ["1.png"])
    inputs, _ = find_inputs([str(tree / "reef*" / "frames")])
    assert names(inputs) == ["reef1", "reef2"]


def test_find_inputs_images_of_one_folder_are_one_video(tree):
    listed = [str(tree / "one" / name) for name in ("1.png", "10.png", "2.png", "10.png")]
    inputs, _ = find_inputs([*listed, str(tree / "two" / "1.png")])
    assert names(inputs) == ["one", "two"]
    assert [path.name for path in inputs[0].images] == ["1.png", "10.png", "2.png"]


def test_find_inputs_pattern_of_images_is_one_video_in_natural_order(tree):
    inputs, _ = find_inputs([str(tree / "one" / "*.png")])
    assert [path.name for path in inputs[0].images] == ["1.png", "2.png", "10.png"]


def test_find_inputs_folder_of_videos_gives_each(tree):
    inputs, _ = find_inputs([str(tree / "videos")])
    assert names(inputs) == ["a", "b"]


def test_find_inputs_pattern_of_folders_gives_each(tree):
    inputs, problems = find_inputs([str(tree / "[ot]*")])
    assert (names(inputs), problems) == (["one", "two"], [])


def test_find_inputs_same_video_twice_counts_once(tree):
    inputs, _ = find_inputs([str(tree / "videos/b.mp4"), str(tree / "videos/*.mp4")])
    assert names(inputs) == ["b"]


def test_find_inputs_equal_stems_get_different_names(tree):
    for folder in ("x", "y"):
        (tree / folder).mkdir()
        write_images(tree / folder / "rgb", ["1.png"])
    make_video(tree / "videos" / "b.mkv", 2)
    paths = [tree / "x/rgb", tree / "y/rgb", tree / "videos/b.mp4", tree / "videos/b.mkv"]
    inputs, _ = find_inputs([str(path) for path in paths])
    assert names(inputs) == ["x_rgb", "y_rgb", "videos_b", "videos_b_2"]


def test_find_inputs_folder_with_a_dot_keeps_its_name(tree):
    for name in ("take.01", "take.02"):
        write_images(tree / name, ["1.png"])
    inputs, _ = find_inputs([str(tree / "take.*")])
    assert names(inputs) == ["take.01", "take.02"]


def test_find_inputs_addresses_are_streams(tree):
    addresses = ["camera:0", "rtsp://user:secret@host:554/cam.mp4", f"file:{tree / 'videos/b.mp4'}"]
    inputs, problems = find_inputs([*addresses, "camera:0", str(tree / "one")])
    assert problems == []
    assert names(inputs)[:2] == ["camera_0", "rtsp_host_554_cam"]
    assert names(inputs)[3:] == ["one"]
    assert [type(video) for video in inputs] == 3 * [LiveInput] + [VideoInput]
    with inputs[2].open() as stream:
        assert len(list(stream)) == 2


def test_find_inputs_file_that_looks_like_an_address_is_a_file(tree, monkeypatch):
    monkeypatch.chdir(tree)
    make_video(tree / "camera:1.mp4", 2)
    inputs, _ = find_inputs(["camera:1.mp4"])
    assert isinstance(inputs[0].open(), VideoFile)


def test_find_inputs_name_with_brackets_is_taken_as_it_is(tree):
    make_video(tree / "clip [1].mp4", 2)
    inputs, problems = find_inputs([str(tree / "clip [1].mp4")])
    assert (names(inputs), problems) == (["clip [1]"], [])


def test_find_inputs_each_problem_has_its_message(tree):
    inputs, problems = find_inputs(
        [str(tree / "absent.mp4"), str(tree / "one"), str(tree / "empty"), str(tree / "*.xyz")]
    )
    assert names(inputs) == ["one"]
    assert "absent.mp4: not found" in problems[0]
    assert "images or videos, got none in" in problems[1]
    assert "a pattern that matches something" in problems[2]
