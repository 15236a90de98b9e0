"""What can be timed: cases of ours against the best stock way to the same result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

FLOAT_DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Peer:
    """A way to the same result without amodal2's op.

    Args:
        name: what the table shows.
        run: takes what ``Case.make`` returned.
        calls: the stock functions it is made of, if it had to be written for the comparison.
    """

    name: str
    run: Callable[[Any], Any]
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One comparison; both sides take what ``make`` returns, and must agree.

    Args:
        op: name in ``torch.ops.amodal2``, or of what is evaluated.
        name: of the case, unique within the op; a workload where something is evaluated.
        make: inputs on a device in a dtype, from a fixed seed.
        ours: the op.
        peers: the stock ways; the table compares with the fastest of them.
        flops: floating point operations of the task, None if they say nothing.
        bytes: bytes that must be read and written at least, None if they say nothing.
        tolerance: largest allowed difference to the first peer in float32, relative to the largest
            magnitude of its result; None leaves the comparison to the op's tests.
        dtypes: what the case runs in.
        devices: types of device that it runs on.
        floor: the ratio that the project wants to reach, None if there is no such number.
    """

    op: str
    name: str
    make: Callable[[torch.device, torch.dtype], Any]
    ours: Callable[[Any], Any]
    peers: Sequence[Peer]
    flops: float | None = None
    bytes: float | None = None
    tolerance: float | None = 1e-4
    dtypes: tuple[torch.dtype, ...] = FLOAT_DTYPES
    devices: tuple[str, ...] = ("cpu", "cuda")
    floor: float | None = None
