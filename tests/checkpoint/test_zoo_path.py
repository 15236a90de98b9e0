"""``amodal2://`` paths."""

import pytest
import torch
from detectron2.utils.file_io import PathManager
from torch import nn

from amodal2.checkpoint import AmodalCheckpointer, export_weights, zoo_path
from amodal2.utils.errors import CheckpointError


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo_path, "WEIGHTS_FOLDER", tmp_path)
    model = nn.Linear(2, 2)
    export_weights(model, tmp_path / "toy.safetensors", fp16=False)
    return model


def test_zoo_path_checkpointer_loads_shipped_weights(shipped):
    model = nn.Linear(2, 2)
    AmodalCheckpointer(model).load("amodal2://toy.safetensors")
    assert torch.equal(model.weight, shipped.weight)


def test_zoo_path_handler_opens_and_tests_files(shipped):
    assert PathManager.isfile("amodal2://toy.safetensors")
    assert not PathManager.exists("amodal2://absent.safetensors")
    with PathManager.open("amodal2://toy.safetensors", "rb") as file:
        assert len(file.read()) > 0


def test_zoo_path_absent_weights_raise_with_those_there_are(shipped):
    with pytest.raises(CheckpointError, match=r"expected one of \['toy.safetensors'\]"):
        PathManager.get_local_path("amodal2://absent.safetensors")
