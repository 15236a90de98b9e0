#!/usr/bin/env python
"""Check the operators on the GPU of this machine: build, test, memory check, benchmark.

Everything is written to one folder: a log per part, benchmark.json, and summary.json with each
part's status (passed, failed, timed out, skipped) and seconds. Needs torch, the CUDA toolkit of
torch's version and pytest, but no network and no installation: the extension is built in place.
The exit status is 0 if no part failed or ran out of time. All limits together are ten minutes.

Example::

    python tools/gpu_check.py --out gpu_check
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
LOG_LINES = 15
"""How many of a failed part's last lines are shown."""


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        name: of the part and its log.
        command: what is run in the root of the repository.
        limit_s: seconds after which it is stopped.
        environment: variables besides those of this process.
        needs: a program without which the part is skipped, if any.
    """

    name: str
    command: Sequence[str]
    limit_s: int
    environment: dict[str, str]
    needs: str | None = None


@dataclass(frozen=True)
class Result:
    """What came of a part."""

    name: str
    status: str
    seconds: float


def list_parts(architecture: str, out: Path, selection: str) -> list[Part]:
    """List all parts in their order, for a GPU of e.g. architecture "9.0"."""
    python = sys.executable
    tests = [python, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/ops"]
    # One thing at a time in memory, or the check would see torch's pool instead of tensors.
    plain_memory = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    memcheck = ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "99"]
    benchmark = [python, "tools/benchmark.py", "ops", "--device", "cuda"]
    toolkit = {"AMODAL2_BUILD": "cuda", "TORCH_CUDA_ARCH_LIST": architecture}
    return [
        Part("build", [python, "setup.py", "build_ext", "--inplace"], 210, toolkit),
        Part("environment", [python, "-m", "amodal2.utils.env"], 30, {}),
        Part("tests", tests, 120, {}),
        Part("memcheck", [*memcheck, *tests, "-k", selection], 120, plain_memory, memcheck[0]),
        Part("benchmark", [*benchmark, "--json", str(out / "benchmark.json")], 120, {}),
    ]


def run_part(part: Part, out: Path) -> Result:
    """Run a part, its output going to a log, and stop it with all its children at its limit."""
    if part.needs and shutil.which(part.needs) is None:
        return Result(part.name, f"skipped: {part.needs} is not on the path", 0.0)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    with open(out / f"{part.name}.log", "wb") as log:
        process = subprocess.Popen(
            part.command,
            cwd=ROOT,
            env={**environment, **part.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(part.limit_s)
            status = "passed" if code == 0 else f"failed: status {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = f"timed out: more than {part.limit_s} s"
    return Result(part.name, status, round(time.monotonic() - start, 1))


def run_parts(parts: Sequence[Part], out: Path) -> bool:
    """Run the parts, print and record each status, and return whether all went well."""
    results = []
    for part in parts:
        result = run_part(part, out)
        results.append(result)
        print(f"{result.name:<12} {result.seconds:>6.1f} s  {result.status}", flush=True)
        summary = json.dumps([asdict(result) for result in results], indent=1)
        (out / "summary.json").write_text(summary + "\n", encoding="utf-8")
        if not result.status.startswith(("passed", "skipped")):
            text = (out / f"{part.name}.log").read_text(encoding="utf-8", errors="replace")
            print("\n".join(text.splitlines()[-LOG_LINES:]), flush=True)
            if part.name == "build":
                break
    return all(result.status.startswith(("passed", "skipped")) for result in results)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the parts and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in list_parts("", Path(), "")]
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--memcheck-tests",
        default="not opcheck and not gradcheck and not loop_oracle",
        help="pytest -k expression for the memory check, under which tests are slow",
    )
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("gpu_check: expected a CUDA device, got none", file=sys.stderr)
        return 1
    architecture = "{}.{}".format(*torch.cuda.get_device_capability())
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    parts = list_parts(architecture, out, args.memcheck_tests)
    chosen = [part for part in parts if part.name in args.parts]
    return 0 if run_parts(chosen, out) else 1


if __name__ == "__main__":
    sys.exit(main())
