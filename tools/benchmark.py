#!/usr/bin/env python
"""Time the ops of amodal2 against what stock PyTorch offers for the same result.

Each row of the table is one op, case and pass: milliseconds of both, their ratio (above 1: amodal2
is faster) and the largest difference of the results. The two are timed in turn and the fastest
round counts, so that a busy machine disturbs little; on a very busy one use one thread and --cpu.

Example::

    python tools/benchmark.py --op ms_deform_attn --threads 1 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.ops import ms_deform_attn, op_paths


@dataclass(frozen=True)
class Benchmark:
    """One op: its cases, the stock peer and the amodal2 path; both take what ``make`` returns."""

    cases: dict[str, tuple]
    make: Callable[..., tuple]
    stock: Callable[..., Tensor]
    ours: Callable[..., Tensor]


def make_ms_deform_attn(
    batch: int, levels: list[tuple[int, int]], heads: int, depth: int, points: int
) -> tuple:
    """Draw encoder arguments: one query per pixel, points scattered by about 3 pixels around it."""
    grids = [
        torch.stack(
            torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij"),
            dim=-1,
        ).view(-1, 2)
        for h, w in levels
    ]
    centres = torch.cat(grids).flip(-1)  # [Q, 2] (x, y)
    shape = (batch, len(centres), heads, len(levels), points)
    sizes = torch.tensor([(w, h) for h, w in levels], dtype=torch.float32)
    offsets = 3 * torch.randn(*shape, 2) / sizes[:, None]
    locations = centres[:, None, None, None] + offsets
    weights = torch.randn(shape).flatten(-2).softmax(-1).view(shape)
    return torch.randn(batch, len(centres), heads, depth), levels, locations, weights


def stock_ms_deform_attn(
    value: Tensor, levels: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Sample every level with ``grid_sample`` and leave the gradients to autograd."""
    batch, queries, heads = weights.shape[:3]
    grids = (2 * locations.to(value.dtype) - 1).transpose(1, 2).flatten(0, 1)
    sampled = []
    maps = value.split([h * w for h, w in levels], dim=1)
    for index, (pixels, (height, width)) in enumerate(zip(maps, levels, strict=True)):
        image = pixels.permute(0, 2, 3, 1).reshape(batch * heads, -1, height, width)
        sampled.append(F.grid_sample(image, grids[:, :, index], align_corners=False))
    share = weights.to(value.dtype).transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    output = (torch.cat(sampled, dim=-1) * share).sum(-1)  # [B * M, D, Q]
    return output.view(batch, -1, queries).transpose(1, 2)


BENCHMARKS = {
    "ms_deform_attn": Benchmark(
        cases={
            "384x640 B1 D32": (1, [(12, 20), (24, 40), (48, 80)], 8, 32, 4),
            "160x256 B8 D16": (8, [(5, 8), (10, 16), (20, 32)], 8, 16, 4),
            "160x256 B32 D16": (32, [(5, 8), (10, 16), (20, 32)], 8, 16, 4),
        },
        make=make_ms_deform_attn,
        stock=stock_ms_deform_attn,
        ours=ms_deform_attn,
    ),
}


def fastest(
    functions: list[Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> list[float]:
    """Return the shortest time of each function in milliseconds, running them in turn."""
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            start = clock()
            function()
            best[index] = min(best[index], 1e3 * (clock() - start))
    return best


def run_case(
    benchmark: Benchmark, case: tuple, dtype: torch.dtype, rounds: int, clock: Callable[[], float]
) -> Iterator[tuple]:
    """Yield (pass, stock ms, amodal2 ms, largest difference of the result or first gradient)."""
    torch.manual_seed(0)
    arguments = [
        x.to(dtype).requires_grad_() if isinstance(x, Tensor) else x for x in benchmark.make(*case)
    ]
    leaves = [x for x in arguments if isinstance(x, Tensor)]
    outputs = [function(*arguments) for function in (benchmark.stock, benchmark.ours)]
    mixture = torch.randn_like(outputs[0])

    def backward(output: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(output, leaves, mixture, retain_graph=True)

    with torch.no_grad():
        forward = [lambda f=f: f(*arguments) for f in (benchmark.stock, benchmark.ours)]
        yield "forward", *fastest(forward, rounds, clock), _difference(*outputs)
    times = fastest([lambda o=o: backward(o) for o in outputs], rounds, clock)
    grads = [backward(output) for output in outputs]
    yield "backward", *times, _difference(grads[0][0], grads[1][0])


def _difference(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().max().item()


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", nargs="*", choices=sorted(BENCHMARKS), default=sorted(BENCHMARKS))
    parser.add_argument("--threads", nargs="*", type=int, default=[torch.get_num_threads()])
    parser.add_argument("--dtype", choices=["float32", "float64", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=10, help="timings, of which the best counts")
    parser.add_argument("--cpu", action="store_true", help="count CPU time of all threads")
    args = parser.parse_args()
    clock = time.process_time if args.cpu else time.perf_counter
    columns = "{:<16} {:<18} {:<9} {:>7} {:>10} {:>11} {:>7} {:>10}"
    for name in args.op:
        path = op_paths()[name]
        print(f"{name}: {path.path} ({path.reason}); {args.dtype}")
    print(
        columns.format("op", "case", "pass", "threads", "stock ms", "amodal2 ms", "ratio", "diff")
    )
    for name in args.op:
        for label, case in BENCHMARKS[name].cases.items():
            for threads in args.threads:
                torch.set_num_threads(threads)
                dtype = getattr(torch, args.dtype)
                rows = run_case(BENCHMARKS[name], case, dtype, args.rounds, clock)
                for which, stock, ours, difference in rows:
                    cells = (f"{stock:.2f}", f"{ours:.2f}", f"{stock / ours:.1f}x")
                    print(columns.format(name, label, which, threads, *cells, f"{difference:.1e}"))


if __name__ == "__main__":
    main()
