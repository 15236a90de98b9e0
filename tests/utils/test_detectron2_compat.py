"""Start of processes without CUDA; import of Detectron2 without its warnings."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
import torch.distributed as dist
from detectron2.utils import comm

from amodal2.utils.detectron2_compat import _free_port, launch
from tests.conftest import REPOSITORY


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


def warnings_of_scripting(text: str) -> int:
    return text.count("FutureWarning: `torch.jit.script` is")


@pytest.fixture
def scripting_warns() -> int:
    """How often torch warns of one use of ``torch.jit.script``: not at all before 2.9."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.jit.script(torch.nn.Identity())
    return warnings_of_scripting("".join(f"FutureWarning: {w.message}" for w in caught))


_SCRIPTING = "import torch; torch.jit.script(torch.nn.Identity())"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "own"),
    [
        (("-c", f"import amodal2.engine; {_SCRIPTING}"), 1),
        (("-c", f"import amodal2.modeling; {_SCRIPTING}"), 1),
        (("tools/video_demo.py", "--help"), 0),
        (("tools/convert_checkpoint.py", "--help"), 0),
        (("tools/train_net.py", "--help"), 0),
    ],
    ids=["engine", "modeling", "video_demo", "convert_checkpoint", "train_net"],
)
def test_import_of_detectron2_warns_of_no_scripting_but_ours(command, own, scripting_warns):
    result = subprocess.run(
        [sys.executable, "-W", "default", *command],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert warnings_of_scripting(result.stderr) == own * scripting_warns
