"""Opening of files, folders and lists of images."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from amodal2.utils.errors import VideoError
from amodal2.utils.frames import ImageSequence, list_images, open_frames, read_image
from amodal2.utils.video_file import VideoFile
from tests.utils.sample_videos import make_video


def write_images(folder, names, size=(6, 8)):
    folder.mkdir(exist_ok=True)
    for value, name in enumerate(names):
        Image.new("RGB", size[::-1], (10 * value, 20, 200)).save(folder / name)
    return folder


def test_open_frames_folder_reads_images_in_natural_order(tmp_path):
    folder = write_images(tmp_path / "clip", ["1.png", "2.png", "10.png"])
    (folder / "notes.txt").write_text("no image")
    (folder / ".3.png").write_text("hidden")
    with open_frames(folder, fps=10) as source:
        frames = list(source)
        picked = source.read([2, 0])
    assert (source.height, source.width, source.length, source.fps) == (6, 8, 3, 10)
    assert [frame[0, 0].tolist() for frame, _ in frames] == [
        [0, 20, 200],
        [10, 20, 200],
        [20, 20, 200],
    ]
    assert [seconds for _, seconds in frames] == pytest.approx([0, 0.1, 0.2])
    assert source.time_base == Fraction(1, 10)
    np.testing.assert_array_equal(picked, np.stack([frames[2][0], frames[0][0]]))


def test_open_frames_list_keeps_its_order(tmp_path):
    folder = write_images(tmp_path / "clip", ["1.png", "2.png"])
    source = open_frames([folder / "2.png", str(folder / "1.png")])
    assert source.read([0])[0, 0, 0].tolist() == [10, 20, 200]


def test_open_frames_video_file_gives_video_frames(tmp_path):
    make_video(tmp_path / "a.mp4", 3)
    assert isinstance(open_frames(tmp_path / "a.mp4"), VideoFile)


def test_open_frames_one_image_is_a_video_of_one_frame(tmp_path):
    write_images(tmp_path / "clip", ["a.png"])
    assert len(list(open_frames(tmp_path / "clip" / "a.png"))) == 1


def test_open_frames_empty_folder_is_refused(tmp_path):
    with pytest.raises(VideoError, match="a folder with images, got none in"):
        open_frames(tmp_path)


def test_open_frames_absent_path_is_refused(tmp_path):
    with pytest.raises(VideoError, match=r"got .*absent\.mp4, which does not exist"):
        open_frames(tmp_path / "absent.mp4")


def test_image_sequence_other_size_is_refused(tmp_path):
    folder = write_images(tmp_path / "clip", ["1.png"])
    write_images(folder, ["2.png"], (5, 8))
    source = open_frames(folder)
    with pytest.raises(VideoError, match=r"images of 8x6 like the first one, got 8x5 in .*2\.png"):
        list(source)


def test_image_sequence_absent_frame_names_the_range(tmp_path):
    source = open_frames(write_images(tmp_path / "clip", ["1.png"]))
    with pytest.raises(IndexError, match=r"\[0, 1\), got 1"):
        source.read([1])


def test_image_sequence_no_file_is_refused():
    with pytest.raises(VideoError, match="at least one image"):
        ImageSequence([])


def test_read_image_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (8, 6))
    exif = image.getexif()
    exif[0x0112] = 6  # the top of the scene is the right side of the file
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (8, 6, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "P"])
def test_read_image_any_mode_gives_rgb(tmp_path, mode):
    Image.new(mode, (8, 6)).save(tmp_path / "a.png")
    frame = read_image(tmp_path / "a.png")
    assert frame.shape == (6, 8, 3)
    assert frame.dtype == np.uint8


@pytest.mark.parametrize("content", [b"", b"not an image"], ids=["empty", "text"])
def test_read_image_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.png, which cannot be decoded"):
        read_image(tmp_path / "a.png")


def test_read_image_absent_file_is_refused(tmp_path):
    with pytest.raises(VideoError, match="No such file"):
        read_image(tmp_path / "a.png")


def test_list_images_upper_case_suffix_counts(tmp_path):
    write_images(tmp_path, ["A.PNG", "b.JPG"])
    assert [path.name for path in list_images(tmp_path)] == ["A.PNG", "b.JPG"]
