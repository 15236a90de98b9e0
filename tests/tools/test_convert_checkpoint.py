"""The command line that turns a checkpoint into a small weight file."""

import pytest
import torch
from safetensors import safe_open

from amodal2 import model_zoo
from amodal2.checkpoint import AmodalCheckpointer, read_weights
from tests.conftest import load_script
from tests.engine.toy import ToySystem, restored_loggers, toy_config

tool = load_script("tools/convert_checkpoint.py")


@pytest.fixture
def files(tmp_path):
    """Write a config and a checkpoint that fits it; return the model and the arguments."""
    cfg = toy_config(tmp_path / "data", tmp_path / "out")
    (tmp_path / "toy.yaml").write_text(cfg.dump())
    model = ToySystem(cfg)
    AmodalCheckpointer(model, tmp_path).save("model_final", iteration=99, seed=3, optimizer={})
    return model, [
        f"--config-file={tmp_path / 'toy.yaml'}",
        f"--weights={tmp_path / 'model_final.pth'}",
        f"--output={tmp_path / 'toy.safetensors'}",
    ]


def run(arguments):
    with restored_loggers():
        return tool.main(arguments)


@pytest.mark.parametrize(("options", "dtype"), [([], torch.float16), (["--fp32"], torch.float32)])
def test_convert_checkpoint_writes_weights_and_header(tmp_path, files, options, dtype):
    model, arguments = files
    assert run([*arguments, *options, "--note", "data=toy v1", "--note", "by=a=b"]) == 0
    path = tmp_path / "toy.safetensors"
    stored = read_weights(path)["model"]
    assert stored.keys() == model.state_dict().keys()
    assert torch.equal(stored["head.weight"], model.head.weight.to(dtype))
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {
            "config": "toy.yaml",
            "seed": "3",
            "iterations": "100",
            "data": "toy v1",
            "by": "a=b",
        }


def test_convert_checkpoint_of_another_model_writes_nothing(tmp_path, files, capsys):
    model, arguments = files
    del model.table
    AmodalCheckpointer(model, tmp_path).save("model_final")
    assert run(arguments) == 1
    assert "1 missing from the file: table.weight" in capsys.readouterr().err
    assert not (tmp_path / "toy.safetensors").exists()


def test_convert_checkpoint_other_suffix_stops(tmp_path, files, capsys):
    assert run([*files[1], f"--output={tmp_path / 'toy.pth'}"]) == 1
    assert "expected an output *.safetensors, got" in capsys.readouterr().err


def test_convert_checkpoint_note_without_value_stops(files, capsys):
    with pytest.raises(SystemExit):
        run([*files[1], "--note", "data"])
    assert "expected KEY=VALUE, got 'data'" in capsys.readouterr().err


def test_convert_checkpoint_config_of_the_zoo_keeps_its_folder():
    name = model_zoo.list_configs()[0]
    assert tool.config_name(model_zoo.get_config_file(name)) == name
