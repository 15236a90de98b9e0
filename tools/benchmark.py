#!/usr/bin/env python
"""Time the ops of amodal2 against the best stock way to the same result, and a whole model.

``ops`` runs the cases of tools/benchmarks against their peers in the same process: medians of
interleaved rounds, ratio = peer's time / ours (above 1: ours is faster), the memory that a call
adds, and the share of the roofline, the time that a measured copy and matrix product would need for
the case's bytes and flops over ours. A case whose result is not the peer's makes the exit status 1.
``inference`` runs A2VIS with the compiled ops and ``--against`` the references ("reference"), the
calls of the official code of Mask2Former and VITA ("official", see
tools/benchmarks/call_pattern.py), another config or nothing ("none"), each in a process of its
own. ``train`` times training steps on made-up samples and gives the peak of the memory; ``memory``
finds that for a training step of A2VIS without running it. ``eval`` scores the workloads W1 to W4
of shared/reference/evaluation.md, section 6, with the same table: ``video_ap`` against the calls of
the official YouTube-VIS script, ``image_ap`` against pycocotools, hotcoco and, where installed,
faster-coco-eval, ``tracking`` (HOTA, CLEAR and identity metrics) against TrackEval where that is
installed. Ours goes from parsed files to the scores with all checks of the predictions; every peer
must give the same numbers, and a ratio below the floor that the project has set is named.
``completers`` completes 1, 16 and 64 objects with C2F-Seg, at once and by the official call pattern
(one object at a time, everything anew in each of the K passes), with the same weights, and trains
and completes 8 frames of 1 and 3 objects with SaVos in their regions and on whole frames (see
tools/benchmarks/savos_peer.py); milliseconds are for all objects. ``diffusion`` runs the sampling
of Diffusion-VAS against the calls of the official pipeline. On a busy machine use one thread and
--cpu-time.

Examples::

    python tools/benchmark.py ops --op mask_rle --threads 1 --cpu-time --json ops.json
    python tools/benchmark.py inference --size 480x864 --frames 3 --threads 1
    python tools/benchmark.py inference --against official --size 360x640 --threads 1 --cpu-time
    python tools/benchmark.py train --size 360x640 --opts SOLVER.IMS_PER_BATCH 1
    python tools/benchmark.py memory --size 432x768 --opts SOLVER.ACCUMULATE 8
    python tools/benchmark.py eval --cpu-time --json eval.json
    python tools/benchmark.py completers --case 'small_*' --threads 1 --cpu-time
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import platform
import sys
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import amodal2
from amodal2.ops import op_paths
from amodal2.utils.files import write_json

FOLDER = Path(__file__).resolve().parent / "benchmarks"
ROOT = FOLDER.parents[1]


def load_module(name: str) -> ModuleType:
    """Import a module of tools/benchmarks.

    ``tools`` is no package, and some versions of Detectron2 install one of that name, so the name
    is bound to this folder.
    """
    package = ModuleType("tools")
    package.__path__ = [str(FOLDER.parent)]
    sys.modules.setdefault("tools", package)
    return importlib.import_module(f"tools.benchmarks.{name}")


def load_cases() -> list[Any]:
    """Collect the cases of all modules of tools/benchmarks that have some."""
    paths = sorted(FOLDER.glob("*.py"))
    names = [path.stem for path in paths if "\ndef cases(" in path.read_text(encoding="utf-8")]
    return [case for name in names for case in load_module(name).cases()]


def op_names() -> list[str]:
    """Return what ``ops`` can time: every op, and votes, which are made of torch's own."""
    return sorted([*op_paths(), "mask_votes"])


def cpu_name() -> str:
    """Return the processor's name as Linux shows it, else as Python knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def describe_machine(device: torch.device, args: argparse.Namespace) -> dict[str, Any]:
    """Return what the numbers depend on."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "cpu": cpu_name(),
        "gpu": gpu,
        "threads": args.threads,
        "clock": "CPU time" if args.cpu_time else "wall time",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "amodal2": amodal2.__version__,
        "ops": {name: f"{path.path} ({path.reason})" for name, path in op_paths().items()},
    }


class CasesRun:
    """Runs cases on one device; measures the machine's speed for the roofline when it is needed."""

    def __init__(self, device: torch.device, args: argparse.Namespace) -> None:
        self.measure = load_module("measure")
        self.device, self.args = device, args
        self.clock = partial(self.measure.read_clock, device, args.cpu_time)
        self.matmul_flops: dict[torch.dtype, float | None] = {}

    @cached_property
    def copy_bytes(self) -> float:
        """Bytes per second of a copy."""
        return self.measure.measure_copy(self.device, self.clock)

    def roofline_ms(self, case: Any, dtype: torch.dtype) -> float | None:
        """Return the least time for the case's bytes and flops, None if it counts neither."""
        if not case.bytes and not case.flops:
            return None
        if dtype not in self.matmul_flops:
            flops = self.measure.measure_matmul(self.device, dtype, self.clock)
            self.matmul_flops[dtype] = flops
        speed = self.matmul_flops[dtype]
        least = [case.bytes / self.copy_bytes] if case.bytes else []
        least += [case.flops / speed] if case.flops and speed else []
        return 1e3 * max(least) if least else None

    def run(self, case: Any, dtype: torch.dtype) -> dict[str, Any]:
        """Compare, time and weigh one case in one dtype."""
        inputs = case.make(self.device, dtype)
        ours = partial(case.ours, inputs)
        peers = {peer.name: partial(peer.run, inputs) for peer in case.peers}
        first = next(iter(peers.values()))
        found = self.measure.difference(ours(), first())
        times = self.measure.interleaved_medians(
            [ours, *peers.values()], self.args.rounds, self.clock
        )
        by_peer = dict(zip(peers, times[1:], strict=True))
        best = min(by_peer, key=by_peer.__getitem__)
        least = self.roofline_ms(case, dtype)
        exact = dtype == torch.float32 or torch.float32 not in case.dtypes
        return {
            "op": case.op,
            "case": case.name,
            "dtype": str(dtype).removeprefix("torch."),
            "device": self.device.type,
            "threads": self.args.threads,
            "ours_ms": times[0],
            "peer": best,
            "peer_ms": by_peer[best],
            "ratio": by_peer[best] / times[0],
            "floor": case.floor,
            "peers_ms": by_peer,
            "memory_mb": self.measure.peak_memory(ours, self.device),
            "peer_memory_mb": self.measure.peak_memory(peers[best], self.device),
            "roofline": least / times[0] if least else None,
            "difference": min(found, sys.float_info.max),
            "agrees": not exact or case.tolerance is None or found <= case.tolerance,
        }


def select(cases: list[Any], args: argparse.Namespace) -> Iterator[tuple[Any, torch.dtype]]:
    """Yield the cases and dtypes that the command line asks for."""
    for case in cases:
        if args.op and case.op not in args.op:
            continue
        if args.device not in case.devices or not fnmatch.fnmatch(case.name, args.case):
            continue
        for dtype in case.dtypes:
            if not args.dtype or str(dtype).removeprefix("torch.") in args.dtype:
                yield case, dtype


ROW = "{:<17} {:<28} {:<9} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9}  {}"
HEADER = (
    *("op", "case", "dtype", "ours ms", "peer ms", "ratio", "MB", "peer MB", "roofline", "diff"),
    "peer",
)


def format_row(result: dict[str, Any]) -> str:
    """Return one line of the table."""

    def optional(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return ROW.format(
        result["op"],
        result["case"],
        result["dtype"],
        f"{result['ours_ms']:.3f}",
        f"{result['peer_ms']:.3f}",
        f"{result['ratio']:.2f}x",
        optional(result["memory_mb"], ".1f"),
        optional(result["peer_memory_mb"], ".1f"),
        optional(result["roofline"], ".0%"),
        f"{result['difference']:.1e}",
        result["peer"],
    )


def run_ops(args: argparse.Namespace) -> int:
    """Run the cases of the ops."""
    return run_cases(load_cases(), args, roofline=True)


def run_eval(args: argparse.Namespace) -> int:
    """Run the cases of the evaluation."""
    return run_cases(load_module("evaluation").eval_cases(), args, roofline=False)


def run_completers(args: argparse.Namespace) -> int:
    """Run the cases of the completers."""
    cases = load_module("c2f_seg").completer_cases() + load_module("savos").savos_cases()
    return run_cases(cases, args, roofline=False)


def run_diffusion(args: argparse.Namespace) -> int:
    """Run the cases of Diffusion-VAS."""
    return run_cases(load_module("diffusion_vas").diffusion_cases(), args, roofline=False)


def run_cases(cases: list[Any], args: argparse.Namespace, *, roofline: bool) -> int:
    """Run cases; the exit status is 1 if one disagrees with its peer, 2 if there is none."""
    chosen = list(select(cases, args))
    if not chosen:
        print("benchmark: expected cases for these options, got none", file=sys.stderr)
        return 2
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    run = CasesRun(device, args)
    print(ROW.format(*HEADER).rstrip())
    results = []
    for case, dtype in chosen:
        results.append(run.run(case, dtype))
        print(format_row(results[-1]), flush=True)
    machine = describe_machine(device, args)
    if roofline:
        machine["copy_gb_per_s"] = run.copy_bytes / 1e9
        machine["matmul_gflops"] = {
            str(dtype).removeprefix("torch."): flops / 1e9
            for dtype, flops in run.matmul_flops.items()
            if flops is not None
        }
    if args.json:
        write_json(args.json, {"machine": machine, "results": results}, indent=1)
    for result in results:
        if result["floor"] is not None and result["ratio"] < result["floor"]:
            print(f"{result['op']} {result['case']}: below the floor of {result['floor']:g}x")
    wrong = [result for result in results if not result["agrees"]]
    for result in wrong:
        print(
            f"benchmark: {result['op']} {result['case']}: expected the result of the first peer, "
            f"got one that differs by {result['difference']:.1e}",
            file=sys.stderr,
        )
    return 1 if wrong else 0


def run_inference(args: argparse.Namespace) -> int:
    """Compare a whole model with another way to run it, or with another model."""
    return write_report(load_module("inference").compare(args), args)


def run_train(args: argparse.Namespace) -> int:
    """Time training steps."""
    torch.set_num_threads(args.threads)
    return write_report(load_module("training").run(args), args)


def run_memory(args: argparse.Namespace) -> int:
    """Find the memory of a training step."""
    return write_report(load_module("memory").run(args), args)


def write_report(report: dict[str, Any], args: argparse.Namespace) -> int:
    """Write a report and what its numbers depend on, if the command line names a file."""
    if args.json:
        machine = describe_machine(torch.device(args.device), args)
        write_json(args.json, {"machine": machine, **report}, indent=1)
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, got {text!r}")
    return int(parts[0]), int(parts[1])


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    ops = commands.add_parser("ops", help="single ops against stock functions")
    ops.set_defaults(run=run_ops)
    ops.add_argument("--op", nargs="*", choices=op_names(), help="default: all")
    ops.add_argument("--rounds", type=int, default=10, help="timings, of which the median counts")
    evaluation = commands.add_parser("eval", help="the evaluation against packages and scripts")
    evaluation.set_defaults(run=run_eval)
    kinds = ("image_ap", "video_ap", "tracking")
    evaluation.add_argument("--op", nargs="*", choices=kinds, help="default: all")
    evaluation.add_argument("--rounds", type=int, default=3, help="timings, median counts")
    completers = commands.add_parser(
        "completers", help="C2F-Seg and SaVos against the official call pattern"
    )
    completers.set_defaults(run=run_completers)
    completers.add_argument("--op", nargs="*", choices=("c2f_seg", "savos"), help="default: all")
    completers.add_argument("--rounds", type=int, default=3, help="timings, median counts")
    diffusion = commands.add_parser("diffusion", help="Diffusion-VAS in the official calls")
    diffusion.set_defaults(run=run_diffusion, op=None)
    diffusion.add_argument("--rounds", type=int, default=3, help="timings, median counts")
    for command in (ops, evaluation, completers, diffusion):
        command.add_argument("--case", default="*", metavar="GLOB", help="names, e.g. 'fwd_*'")
        command.add_argument("--dtype", nargs="*", metavar="NAME", help="e.g. float32")
    inference = commands.add_parser("inference", help="A2VIS against another way to run it")
    inference.set_defaults(run=run_inference)
    inference.add_argument("--frames", type=int, default=3, help="length of the video")
    inference.add_argument(
        "--against",
        default="reference",
        metavar="WAY",
        help='"reference" (ops without compiled code), "official" (calls), a config file or "none"',
    )
    train = commands.add_parser("train", help="training steps: time and memory")
    train.set_defaults(run=run_train)
    memory = commands.add_parser("memory", help="memory of a training step, without running it")
    memory.set_defaults(run=run_memory)
    memory.add_argument("--processes", type=int, default=1, help="that share the batch")
    for command in (train, memory):
        command.add_argument("--objects", type=int, default=10, help="objects of a sample")
    for command in (inference, train):
        command.add_argument("--rounds", type=int, default=3, help="runs, median counts")
    for command in (inference, train, memory):
        command.add_argument(
            "--config-file", default=str(ROOT / "configs/a2vis/Base-A2VIS.yaml"), metavar="FILE"
        )
        command.add_argument(
            "--size", type=parse_size, default=(480, 864), metavar="HxW", help="pixels of a frame"
        )
        command.add_argument(
            "--opts", nargs="*", default=[], metavar="KEY VALUE", help="config keys to change"
        )
    alone = (evaluation, diffusion)
    for command in (ops, inference, train, memory, evaluation, completers, diffusion):
        threads = 1 if command in alone else torch.get_num_threads()
        command.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
        command.add_argument("--threads", type=int, default=threads)
        command.add_argument(
            "--cpu-time", action="store_true", help="count CPU time of all threads"
        )
        command.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    args = parse_arguments(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("benchmark: expected a GPU for --device cuda, got none", file=sys.stderr)
        return 2
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
