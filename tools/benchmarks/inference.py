"""Time a whole model against another way to run it or another model, each in its own process.

Run as a script with a JSON of settings as its argument, it is that process: it prints one JSON
line and writes the visible logits of the last clip to a file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

AGAINST = ("reference", "official")
"""Ways to run the same model: ops without compiled code, the calls of the official code."""
ALONE = "none"
"""Nothing is run beside the model."""


class OpTimer(TorchDispatchMode):
    """Adds up the time inside each op of amodal2; the stock functions that it calls count too."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace != "amodal2":
            return func(*args, **(kwargs or {}))
        start = self.clock()
        result = func(*args, **(kwargs or {}))
        self.seconds[func._schema.name.removeprefix("amodal2::")] += self.clock() - start
        return result


@contextmanager
def timed_modules(model: nn.Module, clock: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Yield the seconds inside the modules of the upper two levels, which fill as they run."""
    seconds: defaultdict[str, float] = defaultdict(float)
    starts: dict[str, float] = {}
    hooks = []
    for name, module in model.named_modules():
        if not name or name.count(".") > 1 or name.startswith("backbone."):
            continue

        def before(module: nn.Module, inputs: Any, name: str = name) -> None:
            starts[name] = clock()

        def after(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            seconds[name] += clock() - starts[name]

        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def run_video(model: Any, frames: Tensor) -> Tensor:
    """Run the model clip by clip and return the mask logits of the last one."""
    state = model.start()
    for clip in frames.split(model.clip_len):
        output, state = model.forward_clip(clip, state)
    for last in model.finish_clips(state):
        output = last
    model.class_scores(state)
    return output.amodal_logits if output.visible_logits is None else output.visible_logits


def run_child(settings: dict[str, Any]) -> None:
    """Measure the model of the settings in this process."""
    # Beside this script.
    from call_pattern import timed_calls, use_official_calls
    from measure import read_clock, reset_peak_resident, resident_memory

    from amodal2 import model_zoo
    from amodal2.config import get_cfg
    from amodal2.engine import set_execution
    from amodal2.ops import C_REASON

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_file(settings["config_file"])
    cfg.merge_from_list([*settings["opts"], "MODEL.DEVICE", settings["device"]])
    model = model_zoo.load_model(cfg)
    set_execution(cfg, model)
    if settings["path"] == "official":
        use_official_calls(model)
    device = model.device

    def clock() -> float:
        return read_clock(device, settings["cpu_time"])

    frames = torch.rand(settings["frames"], 3, *settings["size"]) * 255
    with torch.inference_mode():
        if device.type == "cuda":
            run_video(model, frames)
            torch.cuda.reset_peak_memory_stats(device)
            base = torch.cuda.memory_allocated(device) / 1e6
            logits = run_video(model, frames)
            peak = torch.cuda.max_memory_allocated(device) / 1e6
        else:
            reset_peak_resident()
            base = resident_memory("VmRSS")
            logits = run_video(model, frames)
            peak = resident_memory("VmHWM")
        seconds = []
        for _ in range(settings["rounds"]):
            start = clock()
            run_video(model, frames)
            seconds.append(clock() - start)
        with (
            timed_modules(model, clock) as modules,
            timed_calls(model, clock) as calls,
            OpTimer(clock) as ops,
        ):
            start = clock()
            run_video(model, frames)
            total = clock() - start
    torch.save(logits.cpu(), settings["logits"])
    result = {
        "ops": C_REASON,
        "seconds_per_frame": median(seconds) / settings["frames"],
        "peak_mb": peak,
        "model_mb": base,
        "timed_s": total,
        "modules_s": dict(modules),
        "ops_s": dict(ops.seconds),
        "calls_s": dict(calls),
    }
    sys.stdout.write("\n" + json.dumps(result) + "\n")


def measure_path(path: str, args: argparse.Namespace, logits: Path) -> dict[str, Any]:
    """Start the process of one path and read its line.

    Raises:
        RuntimeError: if the process fails; what it said is on stderr.
    """
    names = ("device", "threads", "config_file", "opts", "frames", "rounds", "size", "cpu_time")
    settings = {name: getattr(args, name) for name in names}
    settings |= {"logits": str(logits), "path": path}
    if path == "other":
        settings["config_file"] = args.against
    root = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    ops = "reference" if path == "reference" else ""
    environment = {**os.environ, "AMODAL2_OPS": ops, "PYTHONPATH": search}
    # Detectron2 calls a function that torch deprecates.
    quiet = ["-W", "ignore::FutureWarning"]
    command = [sys.executable, *quiet, __file__, json.dumps(settings)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"inference: the process of the {path} path failed: {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Run both processes, or one, print the tables and return all numbers.

    The Amdahl bound is the other way's time over its time outside of the ops, or of the official
    calls: what would come of them if they cost nothing. Another model has neither bound nor equal
    results.
    """
    second = args.against if args.against in (*AGAINST, ALONE) else "other"
    names = ["compiled"] if second == ALONE else ["compiled", second]
    with tempfile.TemporaryDirectory() as folder:
        files = {path: Path(folder) / f"{path}.pt" for path in names}
        paths = {path: measure_path(path, args, file) for path, file in files.items()}
        logits = [torch.load(file) for file in files.values()]
    ours, theirs = logits[0], logits[-1]
    other = paths[names[-1]]
    report = {
        "config": args.config_file,
        "against": args.against,
        "size": list(args.size),
        "frames": args.frames,
        "paths": paths,
        "ratio": other["seconds_per_frame"] / paths["compiled"]["seconds_per_frame"],
        "amdahl_bound": None,
        "difference": None,
    }
    if second in AGAINST:
        inside = other["calls_s" if second == "official" else "ops_s"]
        report["amdahl_bound"] = other["timed_s"] / (other["timed_s"] - sum(inside.values()))
        report["difference"] = float((ours - theirs).abs().max() / theirs.abs().max().clamp(1e-9))
    show(report)
    return report


def show(report: dict[str, Any]) -> None:
    """Print frames per second and memory, then the seconds per frame of ops, calls and modules."""
    row = "{:<44} {:>12} {:>12} {:>8}"
    ours = report["paths"]["compiled"]
    second, other = list(report["paths"].items())[-1]
    frames = report["frames"]
    alone = len(report["paths"]) == 1

    def line(label: str, one: float, two: float, digits: int = 3) -> str:
        ratio = f"{two / one:.2f}x" if one > 1e-9 else "-"
        cells = ("", "") if alone else (f"{two:.{digits}f}", ratio)
        return row.format(label, f"{one:.{digits}f}", *cells).rstrip()

    height, width = report["size"]
    lines = [
        f"{report['config']} against {report['against']}, {frames} frames of {height}x{width}",
        row.format("", "compiled", *(("", "") if alone else (second, "ratio"))).rstrip(),
        line("seconds per frame", ours["seconds_per_frame"], other["seconds_per_frame"]),
        line("peak memory, MB", ours["peak_mb"], other["peak_mb"], 0),
        f"{1 / ours['seconds_per_frame']:.3f} frames/s; seconds per frame",
    ]
    for kind, prefix in (("ops_s", "op "), ("calls_s", "calls: "), ("modules_s", "")):
        for name in {**other[kind], **ours[kind]}:
            times = [path[kind].get(name, 0.0) for path in (ours, other)]
            if max(times) > 0.005 * other["timed_s"]:
                indent = "  " * (1 + name.count("."))
                lines.append(line(f"{indent}{prefix}{name}", *(x / frames for x in times)))
    if report["amdahl_bound"] is not None:
        lines.append(
            f"bound of Amdahl with {'calls' if second == 'official' else 'ops'} that cost nothing: "
            f"{report['amdahl_bound']:.2f}x; largest difference of the mask logits: "
            f"{report['difference']:.1e} of their magnitude"
        )
    print("\n".join(lines))


if __name__ == "__main__":
    run_child(json.loads(sys.argv[1]))
