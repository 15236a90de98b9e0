import logging

import numpy as np
import pytest

from amodal2.data.importers import ObjectMasks, SourceVideo
from amodal2.data.importers.command import convert_videos
from amodal2.structures.rle import encode_mask
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import MissingDependencyError, VideoError

LOGGER = logging.getLogger("prepare_test")


def one_video():
    video = SourceVideo("v", 4, 6, ["v/0.png"])
    video.tracks["a"] = ("fish", {0: ObjectMasks(encode_mask(np.ones((4, 6), bool)))})
    return [video]


def test_convert_videos_reports_counts_and_differences_to_published(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        status = convert_videos(one_video, tmp_path / "a.json", LOGGER, published={"videos": 5})
    assert status == 0
    assert "videos: 5 published, 1 found" in caplog.text
    assert "1 of 1 frames named in the file do not exist" in caplog.text
    assert len(read_video_json(tmp_path / "a.json").annotations) == 1


@pytest.mark.parametrize("kind", [ValueError, OSError, VideoError, MissingDependencyError])
def test_convert_videos_unreadable_source_writes_nothing(tmp_path, caplog, kind):
    def broken():
        raise kind("read_x: expected y, got z")

    assert convert_videos(broken, tmp_path / "a.json", LOGGER) == 2
    assert "prepare_test: read_x: expected y, got z" in caplog.text
    assert not (tmp_path / "a.json").exists()


def test_convert_videos_too_long_frame_name_is_one_of_no_file(tmp_path, caplog):
    (video,) = one_video()
    video.file_names = ["v/" + "a" * 5000]
    with caplog.at_level(logging.INFO):
        assert convert_videos(lambda: [video], tmp_path / "a.json", LOGGER) == 0
    assert "1 of 1 frames named in the file do not exist" in caplog.text
