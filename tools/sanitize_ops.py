#!/usr/bin/env python
"""Run the tests of the operators on CPU kernels built with the address and undefined sanitizers.

The extension is built into a folder of its own, with GCC or Clang; the first finding ends the run.
Leaks are not looked for, since Python and torch keep what they allocate.

Example::

    python tools/sanitize_ops.py -- -k "not opcheck" tests/ops/test_ms_deform_attn.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
# Imports the sanitized extension before pytest can put another one on the path.
RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
import torch, amodal2._C
assert amodal2._C.__file__.startswith(sys.argv[1]), amodal2._C.__file__
import pytest
sys.exit(pytest.main(sys.argv[3:]))
"""


def build(folder: Path, compiler: str) -> Path:
    """Build the package into a folder and return where it can be imported from.

    Raises:
        subprocess.CalledProcessError: if it does not compile.
    """
    environment = {
        **os.environ,
        "AMODAL2_BUILD": "cpu",
        "CXX": compiler,
        "CFLAGS": f"-O1 -g1 {FLAGS}",
        "LDFLAGS": FLAGS,
    }
    # The egg-info of an editable installation stays as it is.
    steps = ["egg_info", "--egg-base", str(folder), "build", "--build-base", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "setup.py", "-q", *steps]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    (extension,) = folder.glob("lib*/amodal2/_C*.so")
    return extension.parent.parent


def preloaded(compiler: str) -> str:
    """Return what has to be loaded before Python: the sanitizer, then what it intercepts.

    Raises:
        FileNotFoundError: if the compiler has no such library.
    """
    found = []
    for name in ("libasan.so", "libstdc++.so"):
        command = [compiler, f"-print-file-name={name}"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not Path(text).is_file():
            raise FileNotFoundError(f"sanitize_ops: expected {name} of {compiler}, got none")
        found.append(text)
    return " ".join(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Build, run the tests and return pytest's exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "sanitize")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("pytest", nargs="*", default=["tests/ops"], help="arguments of pytest")
    args = parser.parse_args(argv)
    start = time.monotonic()
    package = build(args.folder.resolve(), args.compiler)
    built = time.monotonic()
    environment = {
        **os.environ,
        "LD_PRELOAD": preloaded(args.compiler),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_NUM_THREADS": "2",
    }
    command = [sys.executable, "-c", RUN, str(package), str(ROOT), "-q", "--capture=sys"]
    done = subprocess.run([*command, *args.pytest], cwd=ROOT, env=environment, check=False)
    seconds = time.monotonic() - built
    print(f"sanitize_ops: built in {built - start:.0f} s, tests ran {seconds:.0f} s")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
