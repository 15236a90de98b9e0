"""Start of processes without CUDA."""

import pytest
import torch.distributed as dist
from detectron2.utils import comm

from amodal2.utils.detectron2_compat import _free_port, launch


def test_launch_one_process_runs_in_place():
    seen = []
    launch(lambda *args: seen.append((args, dist.is_initialized())), device="cpu", args=(1, 2))
    assert seen == [((1, 2), False)]


def test_launch_under_torchrun_joins_its_job(monkeypatch):
    variables = {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    seen = []

    def main():
        seen.append((dist.get_backend(), comm.get_rank(), comm.get_local_rank()))
        seen.append(comm.get_local_size())

    launch(main, 8, device="cpu")
    assert seen == [("gloo", 0, 0), 1]
    assert not dist.is_initialized()
    assert comm.get_world_size() == 1


def test_launch_several_machines_need_an_address():
    with pytest.raises(ValueError, match="expected a dist_url for 2 machines"):
        launch(print, 1, num_machines=2, device="cpu")


def test_launch_more_processes_than_gpus_raises(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ValueError, match="expected 2 GPUs, one per process, got 1"):
        launch(print, 2, device="cuda")
