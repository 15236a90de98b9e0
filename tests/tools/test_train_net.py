"""The command line of the training tool."""

import importlib.util
from pathlib import Path

import pytest

from amodal2.checkpoint import AmodalCheckpointer
from amodal2.config import get_cfg
from amodal2.utils.errors import CheckpointError
from tests.engine.toy import ToySystem, restored_loggers, toy_config

TOOL = Path(__file__).resolve().parents[2] / "tools" / "train_net.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("train_net", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_train_net_keys_of_the_command_line_win(tool, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("SOLVER:\n  BASE_LR: 0.5\n  MAX_ITER: 7\n")
    args = tool.parse_arguments(["--config-file", str(config), "SOLVER.MAX_ITER", "9"])
    cfg = tool.load_config(args)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (0.5, 9)
    assert cfg.is_frozen()


def test_train_net_trains_and_resumes(tool, tmp_path):
    cfg = toy_config(tmp_path / "data", tmp_path / "out", "SOLVER.MAX_ITER", 2)
    (tmp_path / "c.yaml").write_text(cfg.dump())
    args = ["--config-file", str(tmp_path / "c.yaml")]
    with restored_loggers():
        tool.main(tool.parse_arguments(args))
        assert (tmp_path / "out" / "model_final.pth").exists()
        tool.main(tool.parse_arguments([*args, "--resume", "SOLVER.MAX_ITER", "4"]))
    assert '"iteration": 3' in (tmp_path / "out" / "metrics.json").read_text()


@pytest.fixture
def evaluated(tool, tmp_path, monkeypatch):
    """Return a function that runs --eval-only with more arguments and gives the tested models."""
    cfg = toy_config(tmp_path / "data", tmp_path / "out")
    (tmp_path / "c.yaml").write_text(cfg.dump())
    models = []
    monkeypatch.setattr(tool.AmodalTrainer, "test", lambda cfg, model: models.append(model))

    def run(*arguments):
        args = ["--config-file", str(tmp_path / "c.yaml"), "--eval-only", *map(str, arguments)]
        with restored_loggers():
            tool.main(tool.parse_arguments(args))
        return models

    return run


def test_train_net_evaluates_the_weights_or_the_last_checkpoint(tmp_path, evaluated):
    for name, folder in (("given", tmp_path), ("model_0000001", tmp_path / "out")):
        folder.mkdir(exist_ok=True)
        model = ToySystem(get_cfg())
        model.head.bias.data.fill_(len(name))
        AmodalCheckpointer(model, folder).save(name)
    weights = ("MODEL.WEIGHTS", tmp_path / "given.pth")
    evaluated(*weights)
    evaluated("--resume", *weights)
    models = evaluated("--resume")
    assert [model.head.bias[0].item() for model in models] == [5, 13, 13]


def test_train_net_evaluation_without_weights_raises(evaluated):
    for options in ([], ["--resume"]):
        with pytest.raises(ValueError, match=r"got an empty MODEL\.WEIGHTS; append"):
            evaluated(*options)


def test_train_net_evaluation_of_weights_that_do_not_fit_raises(tmp_path, evaluated):
    model = ToySystem(get_cfg())
    del model.table
    AmodalCheckpointer(model, tmp_path).save("other")
    with pytest.raises(CheckpointError, match=r"1 missing from the file: table\.weight"):
        evaluated("MODEL.WEIGHTS", tmp_path / "other.pth")


def test_train_net_is_small_and_knows_no_model(tool):
    source = TOOL.read_text()
    assert len(source.splitlines()) < 150
    assert "META_ARCHITECTURE" not in source
