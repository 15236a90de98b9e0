"""Training steps that are timed, and their memory found without running them."""

import json

import pytest
import torch

from tests.conftest import REPOSITORY, load_script
from tests.modeling.tiny import tiny_config

CONFIGS = REPOSITORY / "configs/a2vis"
TINY = [
    *("MODEL.WEIGHTS", "", "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "16"),
    *("INPUT.AMODAL.CLIP_LEN", "1", "INPUT.AMODAL.NUM_CLIPS", "2"),
]


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/benchmark.py")


@pytest.mark.slow
def test_benchmark_train_writes_time_and_memory(tool, tmp_path, capsys) -> None:
    file = tmp_path / "train.json"
    options = ["--config-file", str(CONFIGS / "quick/a2vis_aquarium.yaml"), "--size", "64x96"]
    options += ["--rounds", "1", "--threads", "1", "--objects", "2", "--json", str(file)]
    assert tool.main(["train", *options, "--opts", *TINY, "SOLVER.ACCUMULATE", "2"]) == 0
    written = json.loads(file.read_text())
    assert written["frames_per_step"] == 4
    assert {"backbone", "a2vis.samh"} <= set(written["forward_s"])
    assert sum(v for k, v in written["forward_s"].items() if "." not in k) < written["timed_s"]
    assert written["peak_mb"] > 0
    assert "steps of 4 frames of 64x96" in capsys.readouterr().out


@pytest.mark.slow
def test_benchmark_memory_falls_with_processes_and_recomputation(tool) -> None:
    def memory(*changes, processes: int = 1) -> dict:
        convs = ("MODEL.A2VIS.SAMH.NUM_CONVS", 8)
        cfg = tiny_config("SOLVER.IMS_PER_BATCH", 2, *convs, *changes)
        return tool.load_module("memory").estimate(cfg, (160, 240), 3, processes)

    whole, samh = memory(), memory("MODEL.RECOMPUTE", ("samh",))
    assert samh["step_gb"] < 0.95 * whole["step_gb"]
    assert samh["trained"] == whole["trained"] < whole["parameters"]
    shared = memory(processes=2)
    assert (whole["samples"], shared["samples"]) == (2, 1)
    assert shared["step_gb"] < 0.8 * whole["step_gb"]


def test_live_bytes_follow_storages_not_tensors(tool) -> None:
    module = tool.load_module("memory")
    with module._fake_run() as live:
        x = torch.zeros(1000)
        view = x.view(10, 100)
        assert live.now == 4000
        y = view + 1
        del x, view
        assert (live.now, live.peak) == (4000, 8000)
        del y
        assert live.now == 0
