"""The one place that bridges differences between Detectron2 releases.

Release 0.5 starts processes for NCCL and CUDA only and knows no torchrun; later ones keep the group
of a machine's processes behind a function. :func:`launch` covers both and adds gloo on CPU.

Importing this module imports Detectron2's models, without torch's warnings that they use
``torch.jit.script``; other uses of it are warned of as ever. So it is imported before them.
"""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import connection, parent_process
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", r"`torch\.jit\.script` is", FutureWarning)
    import detectron2.modeling  # noqa: F401

_TIMEOUT = timedelta(minutes=30)


def launch(
    main: Callable[..., Any],
    processes_per_machine: int = 1,
    *,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    device: str = "cuda",
    args: tuple[Any, ...] = (),
) -> None:
    """Run ``main(*args)`` in all processes of a job.

    Under torchrun (``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK`` are set) this process becomes one of
    the job and the other arguments about processes are ignored. Otherwise the processes of this
    machine are started; a single one runs in place. Started ones end when this process does,
    however it ends.

    Args:
        main: picklable function.
        processes_per_machine: one per GPU, or any number on the CPU.
        num_machines: machines of the job.
        machine_rank: this machine, 0-based.
        dist_url: where the processes meet, e.g. "tcp://10.0.0.1:29500"; "auto" takes a free port of
            this machine.
        device: "cuda..." uses NCCL, everything else gloo.
        args: arguments of ``main``.

    Raises:
        ValueError: if "auto" is used with several machines, or there are fewer GPUs than processes.
    """
    if all(name in os.environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")):
        _run_under_torchrun(main, device, args)
        return
    world_size = num_machines * processes_per_machine
    if world_size == 1:
        main(*args)
        return
    if dist_url == "auto":
        if num_machines > 1:
            raise ValueError(
                f"launch: expected a dist_url for {num_machines} machines, got 'auto'; "
                "give the same tcp://host:port on all of them"
            )
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    _check_gpus(device, processes_per_machine)
    mp.start_processes(
        _worker,
        nprocs=processes_per_machine,
        args=(main, processes_per_machine, num_machines, machine_rank, dist_url, device, args),
        start_method="spawn",
    )


def join_process_group(
    *,
    rank: int,
    local_rank: int,
    local_size: int,
    world_size: int,
    init_method: str,
    device: str,
) -> None:
    """Make this process one of a job and tell Detectron2 which processes share its machine.

    Args:
        rank: of this process in the job.
        local_rank: of this process on its machine; also its GPU.
        local_size: processes per machine.
        world_size: processes of the job.
        init_method: URL where they meet.
        device: "cuda..." uses NCCL and selects the GPU, everything else gloo.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=init_method,
        world_size=world_size,
        rank=rank,
        timeout=_TIMEOUT,
    )
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
        return
    for first in range(0, world_size, local_size):
        group = dist.new_group(list(range(first, first + local_size)))
        if first <= rank < first + local_size:
            comm._LOCAL_PROCESS_GROUP = group


def leave_process_group() -> None:
    """Undo :func:`join_process_group`."""
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    dist.destroy_process_group()


def _run_under_torchrun(main: Callable[..., Any], device: str, args: tuple[Any, ...]) -> None:
    world_size = int(os.environ["WORLD_SIZE"])
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    _check_gpus(device, local_size)
    join_process_group(
        rank=int(os.environ["RANK"]),
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_size=local_size,
        world_size=world_size,
        init_method="env://",
        device=device,
    )
    try:
        main(*args)
    finally:
        leave_process_group()


def _worker(
    local_rank: int,
    main: Callable[..., Any],
    local_size: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    device: str,
    args: tuple[Any, ...],
) -> None:
    """Entry point of a started process."""
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    join_process_group(
        rank=machine_rank * local_size + local_rank,
        local_rank=local_rank,
        local_size=local_size,
        world_size=num_machines * local_size,
        init_method=dist_url,
        device=device,
    )
    try:
        main(*args)
    finally:
        leave_process_group()


def _end_with_parent() -> None:
    """Wait until the parent is gone, then end this process at once.

    torch asks Linux to send SIGINT then, which jobs in the background of a shell ignore and which
    does not reach a process that waits in a collective operation.
    """
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _check_gpus(device: str, processes: int) -> None:
    if device.startswith("cuda") and torch.cuda.device_count() < processes:
        raise ValueError(
            f"launch: expected {processes} GPUs, one per process, got {torch.cuda.device_count()}; "
            "start fewer processes or set MODEL.DEVICE cpu"
        )


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
