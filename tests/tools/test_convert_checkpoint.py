"""The command line that turns a checkpoint into a small weight file."""

import json

import pytest
import torch
from safetensors import safe_open

from amodal2 import model_zoo
from amodal2.checkpoint import AmodalCheckpointer, read_weights
from tests.checkpoint import official_files
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


def test_convert_checkpoint_partial_writes_what_fits(tmp_path, files, capsys):
    model, arguments = files
    model.extra = torch.nn.Linear(2, 2)
    del model.table
    AmodalCheckpointer(model, tmp_path).save("model_final")
    report = tmp_path / "report.json"
    assert run([*arguments, "--partial", f"--report={report}"]) == 0
    stored = read_weights(tmp_path / "toy.safetensors")["model"]
    assert stored.keys() == {k for k in model.state_dict() if not k.startswith("extra.")}
    assert "1 missing from the file: table.weight" in capsys.readouterr().out
    assert json.loads(report.read_text())["unexpected"] == ["extra.weight", "extra.bias"]


@pytest.fixture
def official(tmp_path):
    """Write an official file of the older layout; return its names and the arguments."""
    names = official_files.old_layout(official_files.mask2former({}, classes=3))
    weights = official_files.tensors({name: shape[:1] for name, shape in names.items()})
    official_files.save_pkl(tmp_path / "w.pkl", weights, __author__="third_party")
    return names, [f"--weights={tmp_path / 'w.pkl'}", f"--output={tmp_path / 'w.safetensors'}"]


def test_convert_checkpoint_official_file_is_renamed_without_a_config(tmp_path, official, capsys):
    names, arguments = official
    assert run([*arguments, f"--report={tmp_path / 'r.json'}"]) == 0
    stored = read_weights(tmp_path / "w.safetensors")["model"]
    assert stored.keys() == official_files.mask2former({}, classes=3).keys()
    out = capsys.readouterr().out
    assert "recognised as Mask2Former or MinVIS with another backbone, 3 classes" in out
    assert "all keys match" not in out
    assert (
        "sem_seg_head.predictor.static_query.weight -> sem_seg_head.predictor.query_feat.weight"
    ) in out
    renamed = json.loads((tmp_path / "r.json").read_text())["renamed"]
    assert set(renamed) == names.keys() - stored.keys()
    again = [f"--weights={tmp_path / 'w.safetensors'}", f"--output={tmp_path / 'x.safetensors'}"]
    assert run(again) == 0
    assert read_weights(tmp_path / "x.safetensors")["model"].keys() == stored.keys()


def test_convert_checkpoint_only_one_part_is_written(tmp_path, files):
    arguments = [argument for argument in files[1] if not argument.startswith("--config")]
    assert run([*arguments, "--only", "head."]) == 0
    stored = read_weights(tmp_path / "toy.safetensors")["model"]
    assert stored.keys() == {"head.weight", "head.bias"}
    assert run([*arguments, "--only", "tail."]) == 1


def test_convert_checkpoint_unknown_system_without_config_stops(files, capsys):
    arguments = [argument for argument in files[1] if not argument.startswith("--config")]
    assert run(arguments) == 1
    assert "VITA, GenVIS or a published backbone, got others in" in capsys.readouterr().err


def test_convert_checkpoint_partial_without_config_stops(official, capsys):
    with pytest.raises(SystemExit):
        run([*official[1], "--partial"])
    assert "--partial needs --config-file" in capsys.readouterr().err


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
