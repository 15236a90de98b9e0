"""The command line of the training tool."""

import importlib.util
from pathlib import Path

import pytest

from tests.engine.toy import restored_loggers, toy_config

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


def test_train_net_is_small_and_knows_no_model(tool):
    source = TOOL.read_text()
    assert len(source.splitlines()) < 150
    assert "META_ARCHITECTURE" not in source
