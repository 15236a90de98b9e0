"""A video from end to end: tracks.json and pictures."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext

import cv2
import numpy as np
import pytest

from amodal2.structures.rle import decode_rle
from amodal2.utils.errors import VideoError
from amodal2.utils.frames import read_image
from amodal2.utils.video_file import VideoFile
from amodal2.video.predictor import PredictorSettings
from amodal2.video.reader import find_inputs
from amodal2.video.run import SAVEABLE, process_video
from tests.utils.sample_videos import close_to, cut_tail, make_video, set_rotation
from tests.utils.test_frames import write_images
from tests.video.colour_model import CATEGORY_NAMES, ColourModel


class Counter:
    """Counts frames per pass."""

    def __init__(self) -> None:
        self.passes: list[list] = []

    def __call__(self, title, total):
        self.passes.append([title, total, 0])
        return nullcontext(self)

    def update(self) -> None:
        self.passes[-1][2] += 1


def process(path, folder, save=("overlay", "json"), threshold=0.0, counter=None):
    (video,), _ = find_inputs([str(path)])
    settings = PredictorSettings(score_threshold=threshold, category_ids=list(CATEGORY_NAMES))
    return process_video(
        video,
        ColourModel(),
        settings,
        folder,
        CATEGORY_NAMES,
        save=save,
        progress=counter or Counter(),
    )


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
def test_process_video_overlay_keeps_stamps_and_size(tmp_path, suffix, height, width):
    path = tmp_path / f"a.{suffix}"
    make_video(path, height=height, width=width, ticks=[0, 3, 4, 10, 11, 30, 31, 32, 40, 41])
    assert process(path, tmp_path / "out") == 2
    source, overlay = (list(VideoFile(file)) for file in (path, tmp_path / "out/overlay.mp4"))
    np.testing.assert_allclose([t for _, t in overlay], [t for _, t in source], atol=1e-6)
    assert overlay[0][0].shape == (height + height % 2, width + width % 2, 3)
    assert not close_to(overlay[0][0][:height, :width], source[0][0])
    content = json.loads((tmp_path / "out/tracks.json").read_text())
    assert content["videos"][0]["file_name"] == path.name
    assert content["videos"][0]["length"] == 10


def test_process_video_of_frames_is_named_by_their_folder(tmp_path):
    (tmp_path / "reef1").mkdir()
    write_images(tmp_path / "reef1" / "frames", ["1.png", "2.png"])
    process(tmp_path / "reef1" / "frames", tmp_path / "out", ("json",))
    content = json.loads((tmp_path / "out/tracks.json").read_text())
    assert content["videos"][0]["file_name"] == "reef1"


def test_process_video_counts_both_passes(tmp_path):
    make_video(tmp_path / "a.mp4")
    counter = Counter()
    process(tmp_path / "a.mp4", tmp_path, counter=counter)
    assert counter.passes == [["a: tracking", 10, 10], ["a: drawing", 10, 10]]


def test_process_video_reports_the_share_of_drawing(tmp_path, caplog):
    make_video(tmp_path / "a.mp4", 4)
    with caplog.at_level("INFO", logger="amodal2.video.run"):
        process(tmp_path / "a.mp4", tmp_path)
    share = re.search(r"for 4 frames, ([\d.]+) % of it for drawing", caplog.text)
    assert share is not None
    assert 0 < float(share[1]) < 100


def test_process_video_everything_saved(tmp_path):
    make_video(tmp_path / "a.mp4", 4)
    process(tmp_path / "a.mp4", tmp_path / "out", SAVEABLE - {"attention"})
    out = tmp_path / "out"
    content = json.loads((out / "tracks.json").read_text())
    assert VideoFile(out / "sidebyside.mp4").width == 2 * 64 + 4
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert len(found) == 2 * 2 * 4
    for track in content["annotations"]:
        for key, kind in (("segmentations", "visible"), ("amodal_segmentations", "amodal")):
            mask = read_image(out / f"masks/id_{track['id']:03d}/{kind}/000002.png")
            np.testing.assert_array_equal(mask[..., 0] == 255, decode_rle(track[key][2]))


@pytest.mark.parametrize(
    ("save", "files"), [(("json",), ["tracks.json"]), (("overlay",), ["overlay.mp4"])]
)
def test_process_video_writes_only_what_is_asked(tmp_path, save, files):
    make_video(tmp_path / "a.mp4", 4)
    process(tmp_path / "a.mp4", tmp_path / "out", save)
    assert [path.name for path in (tmp_path / "out").iterdir()] == files


def test_process_video_nothing_found_gives_the_plain_video_and_one_warning(tmp_path, caplog):
    frames = make_video(tmp_path / "a.mp4", 5)
    assert process(tmp_path / "a.mp4", tmp_path / "out", threshold=0.99) == 0
    overlay = [frame for frame, _ in VideoFile(tmp_path / "out/overlay.mp4")]
    assert all(close_to(a, b) for a, b in zip(overlay, frames, strict=True))
    assert json.loads((tmp_path / "out/tracks.json").read_text())["annotations"] == []
    levels = [record.levelname for record in caplog.records]
    assert [level for level in levels if level != "INFO"] == ["WARNING"]
    assert "nothing found with a score of at least 0.99" in caplog.text


def test_process_video_rotated_source_gives_upright_results(tmp_path):
    make_video(tmp_path / "a.mp4", 4)
    set_rotation(tmp_path / "a.mp4", 90)
    process(tmp_path / "a.mp4", tmp_path / "out")
    overlay = VideoFile(tmp_path / "out/overlay.mp4")
    assert (overlay.height, overlay.width) == (64, 48)
    video = json.loads((tmp_path / "out/tracks.json").read_text())["videos"][0]
    assert (video["height"], video["width"]) == (64, 48)


def test_process_video_cut_tail_covers_what_can_be_read(tmp_path):
    path = tmp_path / "a.mp4"
    make_video(path, 60, rate=10, faststart=True)
    cut_tail(path, 0.6)
    process(path, tmp_path / "out")
    count = len(list(VideoFile(path)))
    assert 10 < count < 60
    assert len(list(VideoFile(tmp_path / "out/overlay.mp4"))) == count
    content = json.loads((tmp_path / "out/tracks.json").read_text())
    assert content["videos"][0]["length"] == count


def test_process_video_recorder_clock_starts_at_zero(tmp_path):
    path = tmp_path / "a.mp4"
    make_video(path, ticks=range(90_000, 90_010))
    process(path, tmp_path / "out")
    stamps = [seconds for _, seconds in VideoFile(tmp_path / "out/overlay.mp4")]
    np.testing.assert_allclose(stamps, np.arange(10) / 25, atol=1e-6)


def test_process_video_damaged_image_keeps_earlier_results(tmp_path):
    folder = write_images(tmp_path / "clip", ["1.png", "2.png"])
    process(folder, tmp_path / "out")
    before = (tmp_path / "out/overlay.mp4").read_bytes()
    (folder / "2.png").write_bytes(b"damaged")
    with pytest.raises(VideoError, match=r"2\.png, which cannot be decoded"):
        process(folder, tmp_path / "out")
    assert (tmp_path / "out/overlay.mp4").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "overlay.mp4",
        "tracks.json",
    ]


def test_process_video_image_lost_between_the_passes_is_an_error(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "clip", ["1.png", "2.png"])
    real, calls = cv2.imdecode, []
    monkeypatch.setattr(
        cv2, "imdecode", lambda *a: None if len(calls) > 3 else calls.append(a) or real(*a)
    )
    with pytest.raises(VideoError, match="cannot be decoded"):
        process(folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tracks.json"]
