"""The command line that completes given masks."""

import json

import cv2
import numpy as np
import pytest

from amodal2.engine.completion import parse_options
from amodal2.structures.rle import decode_rle
from amodal2.utils.video_file import VideoFile
from tests.conftest import load_script
from tests.engine.toy import restored_loggers
from tests.modeling.completion.clips import hidden_block

tool = load_script("tools/complete_masks.py")


@pytest.fixture
def scene(tmp_path):
    """Write frames, maps of ids and still flow of a block that a bar passes."""
    block, visible, bar = hidden_block()
    for name in ("frames", "masks", "flow"):
        (tmp_path / name).mkdir()
    for t in range(len(block)):
        image = np.where(bar[t, ..., None], 200, np.where(block[t, ..., None], 90, 10))
        cv2.imwrite(str(tmp_path / "frames" / f"{t}.png"), np.repeat(image, 3, 2).astype(np.uint8))
        ids = visible[t] * np.uint8(1) + bar[t] * np.uint8(2)
        cv2.imwrite(str(tmp_path / "masks" / f"{t}.png"), ids)
        np.save(tmp_path / "flow" / f"{t}.npy", np.zeros((*block.shape[1:], 2), np.float32))
    return tmp_path, block


def run(folder, *more, masks="masks"):
    arguments = ["--frames", str(folder / "frames"), "--masks", str(folder / masks)]
    with restored_loggers():
        return tool.main([*arguments, "--output", str(folder / "out"), "--device", "cpu", *more])


def test_main_completes_and_draws(scene):
    folder, block = scene
    status = run(
        folder, "--completer", "union", "--flow", str(folder / "flow"), "--save", "overlay"
    )
    assert status == 0
    content = json.loads((folder / "out" / "tracks.json").read_text())
    tube = content["annotations"][0]["amodal_segmentations"]
    np.testing.assert_array_equal([decode_rle(mask) for mask in tube], block)
    assert len(list(VideoFile(folder / "out" / "overlay.mp4"))) == len(block)


def test_main_takes_its_own_result(scene):
    folder, _ = scene
    assert run(folder, "--completer", "convex") == 0
    first = json.loads((folder / "out" / "tracks.json").read_text())
    (folder / "out" / "tracks.json").rename(folder / "again.json")
    assert run(folder, "--completer", "convex", masks="again.json") == 0
    assert json.loads((folder / "out" / "tracks.json").read_text()) == first


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--completer", "union", "--option", "x=1"), "expected options of union"),
        (("--completer", "union", "--option", "x"), "expected NAME=VALUE, got 'x'"),
        (("--completer", "union", "--flow", "absent"), "expected 'auto', 'raft', 'dis'"),
        (("--completer", "modal", "--frames", "absent"), "absent: not found"),
    ],
)
def test_main_wrong_options_are_reported(scene, capsys, more, message):
    assert run(scene[0], *more) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: cv2.imwrite(str(f / "masks" / "3.png"), np.ones((9, 9), np.uint8)), "9x9"),
        (lambda f: (f / "frames" / "7.png").unlink(), "numbered 0 to 6, got 7.png"),
        (lambda f: np.save(f / "flow" / "2.npy", np.zeros((3, 4, 2))), "like the frames, got 4x3"),
    ],
)
def test_main_bad_files_are_reported(scene, capsys, change, message):
    folder, _ = scene
    change(folder)
    assert run(folder, "--completer", "union", "--flow", str(folder / "flow")) == 1
    assert message in capsys.readouterr().err


def test_main_unknown_picture_is_refused(scene, capsys):
    with pytest.raises(SystemExit):
        run(scene[0], "--completer", "modal", "--save", "sound")
    assert "expected some of" in capsys.readouterr().err


def test_parse_options_values_are_literals_or_text():
    assert parse_options(["a=1", "b=x/y.pth", "c=False"]) == {"a": 1, "b": "x/y.pth", "c": False}
