"""The tool that learns VRSP's shapes."""

import uuid
from pathlib import Path

import numpy as np
import pytest
import torch

from amodal2.data.datasets import register_amodal_coco_instances
from amodal2.modeling.roi_heads.shape_codebook import ShapeAutoencoder, load_shapes
from tests.conftest import load_script
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import CRAB, write


@pytest.fixture
def tool():
    return load_script("tools/build_shape_codebook.py")


def dataset(folder, *objects):
    name = f"shapes_{uuid.uuid4().hex}"
    register_amodal_coco_instances(name, write(folder, image_content(*objects)), folder)
    return name


def test_build_shape_codebook_writes_codes_of_each_class(tool, tmp_path):
    name = dataset(tmp_path, thing(1), thing(2, category=CRAB), thing(3, iscrowd=1))
    output = tmp_path / "shapes.safetensors"
    assert tool.main(["--dataset", name, "--output", str(output), "--epochs", "1"]) == 0
    state, codes = load_shapes(output, 2)
    assert "outconv.0.weight" in state
    assert {index: tuple(values.shape) for index, values in codes.items()} == {
        0: (8, 392),
        1: (8, 392),
    }


def test_build_shape_codebook_cuts_masks_out_of_their_boxes(tool, tmp_path):
    masks, classes = tool.read_shapes(dataset(tmp_path, thing(1)), 28)
    assert masks.shape == (1, 28, 28)
    assert masks.all()  # the object is a rectangle
    assert len(classes) == 1


def official_files(folder, codes):
    """Write what the official code writes: numpy.save of a dict of tensors, and a state dict."""
    torch.manual_seed(0)
    net = ShapeAutoencoder()
    torch.save(net.state_dict(), folder / "net.pth")
    np.save(folder / "codes.npy", codes)
    return net, ["--official", str(folder / "net.pth"), str(folder / "codes.npy")]


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
def test_build_shape_codebook_turns_official_files(tool, tmp_path, kind):
    codes = {1: kind(np.ones((3, 392), np.float32)), 4: kind(np.zeros((2, 392), np.float32))}
    net, official = official_files(tmp_path, codes)
    output = tmp_path / "shapes.safetensors"
    assert tool.main([*official, "--output", str(output)]) == 0
    state, found = load_shapes(output, 5)
    assert state["outconv.0.weight"].equal(net.state_dict()["outconv.0.weight"])
    assert {index: tuple(values.shape) for index, values in found.items()} == {
        1: (3, 392),
        4: (2, 392),
    }
    assert found[1].eq(1).all()


class _Shell:
    """Runs something when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ({0: _Shell()}, "expected numpy.save of a dict of codes per class"),
        ({0: torch.zeros(392)}, "no class with codes"),
        ({0: torch.zeros(2, 391)}, "expected codes of 8 channels, got lengths {0: 391}"),
    ],
)
def test_build_shape_codebook_refuses_other_files(
    tool, tmp_path, caplog, monkeypatch, codes, message
):
    monkeypatch.chdir(tmp_path)
    _, official = official_files(tmp_path, codes)
    assert tool.main([*official, "--output", str(tmp_path / "s.safetensors")]) == 1
    assert message in caplog.text
    assert not (tmp_path / "ran").exists()


def test_build_shape_codebook_refuses_another_auto_encoder(tool, tmp_path, caplog):
    _, official = official_files(tmp_path, {0: torch.zeros(2, 392)})
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "net.pth")
    assert tool.main([*official, "--output", str(tmp_path / "s.safetensors")]) == 1
    assert "got other parameters in" in caplog.text
    missing = ["--official", str(tmp_path / "net.pth"), str(tmp_path / "none.npy")]
    assert tool.main([*missing, "--output", str(tmp_path / "s.safetensors")]) == 1
    assert "no such file" in caplog.text


def test_build_shape_codebook_without_objects_fails(tool, tmp_path, caplog):
    output = tmp_path / "shapes.safetensors"
    assert tool.main(["--dataset", dataset(tmp_path), "--output", str(output)]) == 1
    assert "at least one mask" in caplog.text
    assert not output.exists()
