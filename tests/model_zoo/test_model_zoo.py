"""Configs and models by name."""

import pytest
import torch
from torch import nn

from amodal2 import model_zoo
from amodal2.checkpoint import export_weights, zoo_path
from amodal2.model_zoo import model_zoo as module
from amodal2.utils.errors import CheckpointError
from tests.engine.toy import ToySystem


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A zoo with one small system."""
    configs, weights = tmp_path / "configs", tmp_path / "weights"
    (configs / "toy").mkdir(parents=True)
    (configs / "toy" / "Base-Toy.yaml").write_text(
        "MODEL:\n  META_ARCHITECTURE: ToySystem\n  DEVICE: cpu\n  WEIGHTS: ''\n"
    )
    (configs / "toy" / "toy.yaml").write_text(
        "_BASE_: Base-Toy.yaml\nMODEL:\n  WEIGHTS: amodal2://toy.safetensors\n"
    )
    (configs / "toy" / "plain.yaml").write_text("_BASE_: Base-Toy.yaml\n")
    monkeypatch.setattr(module, "_CONFIG_FOLDERS", (tmp_path / "absent", configs))
    monkeypatch.setattr(zoo_path, "WEIGHTS_FOLDER", weights)
    return weights


def test_model_zoo_lists_configs_without_bases(zoo):
    assert model_zoo.list_configs() == ["toy/plain.yaml", "toy/toy.yaml"]


def test_model_zoo_get_loads_the_shipped_weights(zoo):
    cfg = model_zoo.get_config("toy/toy.yaml")
    source = ToySystem(cfg)
    path = export_weights(source, zoo / "toy.safetensors", fp16=False)
    model = model_zoo.get("toy/toy.yaml")
    assert not model.training
    assert torch.equal(model.head.weight, source.head.weight)
    assert model_zoo.get_checkpoint("toy/toy.yaml") == str(path)


def test_model_zoo_get_untrained_needs_no_weights(zoo):
    assert isinstance(model_zoo.get("toy/toy.yaml", trained=False, device="cpu"), nn.Module)
    assert model_zoo.get_config("toy/toy.yaml", trained=False).MODEL.WEIGHTS == ""


def test_model_zoo_get_takes_the_cpu_only_if_no_device_is_named(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = tmp_path / "configs" / "toy" / "gpu.yaml"
    config.write_text("_BASE_: Base-Toy.yaml\nMODEL:\n  DEVICE: cuda\n")
    model = model_zoo.get("toy/gpu.yaml", trained=False)
    assert model.head.weight.device.type == "cpu"
    model = model_zoo.get("toy/gpu.yaml", trained=False, device="meta")
    assert model.head.weight.device.type == "meta"


def test_model_zoo_get_weights_of_another_model_raise(zoo):
    class Other(ToySystem):
        def __init__(self, cfg):
            super().__init__(cfg)
            self.extra = nn.Linear(1, 1)

    export_weights(Other(model_zoo.get_config("toy/toy.yaml")), zoo / "toy.safetensors")
    with pytest.raises(CheckpointError, match="2 not in the model"):
        model_zoo.get("toy/toy.yaml")


def test_model_zoo_unknown_names_raise(zoo):
    with pytest.raises(FileNotFoundError, match=r"expected one of toy/plain.yaml, toy/toy.yaml"):
        model_zoo.get_config_file("toy/none.yaml")
    with pytest.raises(ValueError, match="got none"):
        model_zoo.get_checkpoint("toy/plain.yaml")
    with pytest.raises(CheckpointError, match=r"got 'toy.safetensors'"):
        model_zoo.get_checkpoint("toy/toy.yaml")


def test_model_zoo_finds_the_configs_of_the_repository():
    assert any(name.startswith("a2vis/") for name in model_zoo.list_configs())
