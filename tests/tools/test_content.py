"""Completed objects on the command line: RGBA clips, and moving them."""

import json

import cv2
import numpy as np
import pytest
import torch
import yaml
from detectron2.modeling import build_model

pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")

import amodal2.modeling  # noqa: F401 registers the system
from amodal2.config import get_cfg
from amodal2.structures.rle import decode_rle
from amodal2.utils.video_file import VideoFile
from amodal2.video.content import read_content
from tests.conftest import load_script
from tests.engine.toy import restored_loggers
from tests.modeling.completion.clips import hidden_block
from tests.modeling.diffusion_vas.tiny import build_pipeline

complete, rearrange = (
    load_script(f"tools/{n}.py") for n in ("complete_masks", "rearrange_objects")
)


@pytest.fixture
def scene(tmp_path):
    """Write frames, maps of ids and depth of a block behind a bar, and models of both stages."""
    block, visible, bar = hidden_block()
    for name in ("frames", "masks", "depth"):
        (tmp_path / name).mkdir()
    for t in range(len(block)):
        image = np.where(bar[t, ..., None], 200, np.where(block[t, ..., None], 90, 10))
        cv2.imwrite(str(tmp_path / "frames" / f"{t}.png"), np.repeat(image, 3, 2).astype(np.uint8))
        ids = visible[t] * np.uint8(1) + bar[t] * np.uint8(2)
        cv2.imwrite(str(tmp_path / "masks" / f"{t}.png"), ids)
        np.save(tmp_path / "depth" / f"{t}.npy", bar[t].astype(np.float32))
    build_pipeline().save_pretrained(tmp_path / "stage1")
    build_pipeline().save_pretrained(tmp_path / "stage2")
    return tmp_path


def run(folder, *more):
    arguments = ["--frames", str(folder / "frames"), "--masks", str(folder / "masks")]
    model = ["--completer", "diffusion_vas", "--option", f"weights={folder / 'stage1'}"]
    small = [f"--option={text}" for text in ("steps=1", "size=(8, 12)", "window=8", "overlap=0")]
    with restored_loggers():
        return complete.main(
            [*arguments, *model, *small, "--output", str(folder / "out"), "--device", "cpu", *more]
        )


def test_complete_masks_writes_rgba_clips_that_can_be_moved(scene, capsys):
    more = ("--content", str(scene / "stage2"), "--samples", "2", "--depth", str(scene / "depth"))
    assert run(scene, *more) == 0
    assert "step 1 of 1" in capsys.readouterr().err
    records = json.loads((scene / "out" / "tracks.json").read_text())["annotations"]
    assert (scene / "out" / "tracks_001.json").is_file()
    _, visible, _ = hidden_block()
    for record in records:
        for t, mask in enumerate(record["amodal_segmentations"]):
            image = read_content(scene / "out" / "content", record["id"], t, (24, 32))
            assert (image is None) == (mask is None)
            if mask is not None:
                np.testing.assert_array_equal(image[..., 3] == 255, decode_rle(mask))
    block = read_content(scene / "out" / "content", 1, 0, (24, 32))
    assert (block[visible[0]][:, :3] == 90).all()
    moved = ["--completed", str(scene / "out"), "--frames", str(scene / "frames")]
    with restored_loggers():
        status = rearrange.main([*moved, "--remove", "2", "--output", str(scene / "moved.mp4")])
    assert status == 0
    frames = [frame for frame, _ in VideoFile(scene / "moved.mp4")]
    assert len(frames) == 8
    bar = np.zeros((24, 32), bool)
    bar[:, 22:24] = True  # frame 6 has it there, and no other object
    assert np.abs(frames[6][bar].astype(int) - 10).max() < 30


def trained(folder, conditions, size=(8, 12)):
    """Write config and weights as a training leaves them."""
    stage = {"ARCHITECTURE": "tiny", "CONDITIONS": conditions, "IMAGE_SIZE": size}
    keys = {"META_ARCHITECTURE": "DiffusionVAS", "DEVICE": "cpu", "DIFFUSION_VAS": stage}
    (folder / "stage.yaml").write_text(yaml.safe_dump({"MODEL": keys}))
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "stage.yaml"))
    torch.save({"model": build_model(cfg).state_dict()}, folder / "stage.pth")
    return [
        *("--content", str(folder / "stage.yaml")),
        *("--option", f"content_weights={folder / 'stage.pth'}"),
    ]


def test_complete_masks_paints_with_a_second_stage_of_our_own(scene):
    assert run(scene, *trained(scene, ["content", "amodal"])) == 0
    assert list((scene / "out" / "content").rglob("*.png"))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ((["mask"],), "expected a second stage with the conditions"),
        ((["content", "amodal"], (16, 16)), "expected a second stage for 8 x 12 pixels"),
    ],
)
def test_complete_masks_another_second_stage_is_reported(scene, capsys, stage, message):
    assert run(scene, *trained(scene, *stage)) == 1
    assert message in capsys.readouterr().err


def test_rearrange_without_clips_says_how_to_make_them(scene, capsys):
    assert run(scene) == 0
    with restored_loggers():
        status = rearrange.main(
            [
                *("--completed", str(scene / "out"), "--frames", str(scene / "frames")),
                *("--move", "1", "3", "3", "--output", str(scene / "moved.mp4")),
            ]
        )
    assert status == 1
    assert "run complete_masks.py with --content" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--depth", "absent"), "which does not exist"),
        (("--samples", "0"), "at least one sample"),
        (("--content", "absent"), "which is neither"),
        (("--completer", "modal", "--samples", "2"), "expected options of modal"),
        (("--option", "weights="), "expected weights=FOLDER"),
    ],
)
def test_complete_masks_wrong_options_are_reported(scene, capsys, more, message):
    assert run(scene, *more) == 1
    assert message in capsys.readouterr().err


def test_complete_masks_depth_that_does_not_fit_is_reported(scene, capsys):
    np.save(scene / "depth" / "3.npy", np.zeros((4, 5), np.float32))
    assert run(scene, "--depth", str(scene / "depth")) == 1
    assert "like frame 3" in capsys.readouterr().err
    (scene / "depth" / "7.npy").unlink()
    np.save(scene / "depth" / "3.npy", np.zeros((24, 32), np.float32))
    assert run(scene, "--depth", str(scene / "depth")) == 1
    assert "expected depth of frame 7" in capsys.readouterr().err


def test_complete_masks_half_a_model_is_reported(scene, capsys):
    file = scene / "stage1" / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert run(scene) == 1
    assert "cut off" in capsys.readouterr().err
