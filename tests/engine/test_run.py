"""Start of a run."""

import yaml

from amodal2.engine import start_run
from tests.engine.toy import restored_loggers, toy_config


def test_start_run_writes_log_and_config(tmp_path):
    cfg = toy_config(tmp_path / "data", tmp_path / "out", "SOLVER.BASE_LR", 0.125)
    with restored_loggers():
        start_run(cfg).info("a line")
    assert "a line" in (tmp_path / "out" / "log.txt").read_text()
    stored = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert stored["SOLVER"]["BASE_LR"] == 0.125
