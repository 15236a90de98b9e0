"""Start of processes without CUDA; import of Detectron2 without its warnings."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

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


def sleep_on(folder: str) -> None:
    """Tell the process id and hang, deaf to interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def is_running(pid: int) -> bool:
    """Tell whether a process exists that is not just waiting to be collected."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(condition, seconds: float = 400) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)
    return condition()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_launch_workers_end_when_their_parent_is_killed(tmp_path):
    code = (
        "from amodal2.utils.detectron2_compat import launch\n"
        "from tests.utils.test_detectron2_compat import sleep_on\n"
        f"if __name__ == '__main__': launch(sleep_on, 2, device='cpu', args=({str(tmp_path)!r},))"
    )
    script = tmp_path / "start.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen([sys.executable, script], env=environment)
    pids = []
    try:
        assert wait_for(lambda: len(list(tmp_path.iterdir())) == 3)
        pids = [int(path.name) for path in tmp_path.iterdir() if path != script]
        assert all(map(is_running, pids))
        parent.kill()
        parent.wait()
        assert wait_for(lambda: not any(map(is_running, pids)), 20)
    finally:
        parent.kill()
        parent.wait()
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)


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
