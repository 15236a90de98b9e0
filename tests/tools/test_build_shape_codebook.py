"""The tool that learns VRSP's shapes."""

import uuid

import pytest

from amodal2.data.datasets import register_amodal_coco_instances
from amodal2.modeling.roi_heads.shape_codebook import load_shapes
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


def test_build_shape_codebook_without_objects_fails(tool, tmp_path, caplog):
    output = tmp_path / "shapes.safetensors"
    assert tool.main(["--dataset", dataset(tmp_path), "--output", str(output)]) == 1
    assert "at least one mask" in caplog.text
    assert not output.exists()
