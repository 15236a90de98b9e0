"""Times, memory and the roofline: how ``tools/benchmark.py`` measures."""

from __future__ import annotations

import ctypes
import gc
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

SHORTEST_MS = 2.0
"""A timing repeats its function until it takes at least about this long."""


def read_clock(device: torch.device, cpu_time: bool) -> float:
    """Return seconds: CPU time of all threads of this process, else wall time.

    On a GPU all work that waits is done first.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if cpu_time else time.perf_counter()


def interleaved_medians(
    functions: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> list[float]:
    """Return the median time of each function in milliseconds, after one call to warm up.

    The functions take turns in every round, so that a change of the machine's speed meets all.
    """
    repeats = []
    for function in functions:
        function()
        start = clock()
        function()
        repeats.append(max(1, math.ceil(SHORTEST_MS / max(1e3 * (clock() - start), 1e-3))))
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, calls, own in zip(functions, repeats, times, strict=True):
            start = clock()
            for _ in range(calls):
                function()
            own.append(1e3 * (clock() - start) / calls)
    return [median(own) for own in times]


def peak_memory(function: Callable[[], object], device: torch.device) -> float | None:
    """Return by how many MB (1e6 bytes) a call raises the memory in use, its result included.

    On a GPU these are PyTorch's allocations. On the CPU it is the peak of the resident memory of
    this process, which the kernel tracks, over its state before the call; freed memory is returned
    to the system first, and the function must have run before. It is exact to about 0.3 MB. None
    where the system does not offer that (other than Linux with glibc).
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    if not sys.platform.startswith("linux"):
        return None
    try:
        ctypes.CDLL(None).malloc_trim(0)
        reset_peak_resident()
    except (AttributeError, OSError):
        return None
    before = resident_memory("VmRSS")
    result = function()
    peak = resident_memory("VmHWM")
    del result
    return max(0.0, peak - before)


def reset_peak_resident() -> None:
    """Let the kernel forget this process's peak of resident memory (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_memory(field: str) -> float:
    """Read ``VmRSS`` (now) or ``VmHWM`` (peak) of this process in MB of 1e6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(field + ":"))
    return int(value) * 1024 / 1e6


def measure_copy(device: torch.device, clock: Callable[[], float]) -> float:
    """Return the bytes per second, read and written, of a copy of 64 MiB."""
    source = torch.ones(2**24, device=device)
    target = torch.empty_like(source)
    (milliseconds,) = interleaved_medians([lambda: target.copy_(source)], 7, clock)
    return 2 * source.nbytes / (milliseconds / 1e3)


def measure_matmul(
    device: torch.device, dtype: torch.dtype, clock: Callable[[], float]
) -> float | None:
    """Return the floating point operations per second of a product of square matrices."""
    if not dtype.is_floating_point:
        return None
    size = 4096 if device.type == "cuda" else 768
    matrix = torch.full((size, size), 1 / size, device=device, dtype=dtype)
    (milliseconds,) = interleaved_medians([lambda: matrix @ matrix], 5, clock)
    return 2 * size**3 / (milliseconds / 1e3)


def difference(ours: Any, theirs: Any) -> float:
    """Return the largest difference relative to the largest magnitude of ``theirs``.

    Sequences are compared entry by entry. What is no tensor is equal (0) or not (infinity), and so
    are tensors with other shapes or NaN in other places.
    """
    if isinstance(theirs, Tensor):
        if ours.shape != theirs.shape:
            return math.inf
        one, other = ours.detach().double(), theirs.detach().double()
        if not torch.equal(one.isfinite(), other.isfinite()):
            return math.inf
        one, other = one.nan_to_num(), other.nan_to_num()
        scale = float(other.abs().max()) if other.numel() else 0.0
        return float((one - other).abs().max()) / (scale or 1.0) if other.numel() else 0.0
    if isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            return math.inf
        return max((difference(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)
    return 0.0 if ours == theirs else math.inf
