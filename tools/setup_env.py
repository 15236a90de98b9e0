#!/usr/bin/env python3
"""Make the virtual environment of this repository, or bring it up to date.

Each step is stamped with a hash of what it depends on, so a second call takes no time.
An environment that this script made is removed again when its first installation fails; one that
was there before is only added to. Needs Python 3.11 or later and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = "amodal2-setup.json"
BUILD_VARIABLES = (
    "AMODAL2_BUILD",
    "CFLAGS",
    "CUDA_HOME",
    "CUDA_PATH",
    "CXX",
    "TORCH_CUDA_ARCH_LIST",
)
SHOWN_LINES = ("amodal2 build: ", "Detectron2 ", "falling back to ")
"""Beginnings of the lines that are worth showing of what the steps print."""


class SetupError(RuntimeError):
    """Something is missing or a step failed; the message is one line."""


def digest(*parts: str | Path) -> str:
    """Hash texts, and the names and contents of files and of all files in folders."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(f"{part}\0".encode())
            continue
        for file in sorted(part.rglob("*")) if part.is_dir() else [part]:
            if file.is_file():
                total.update(f"{file}\0".encode() + file.read_bytes())
    return total.hexdigest()


def step_keys() -> dict[str, str]:
    """Return, for each step in its order, the hash of what it depends on."""
    torch = digest(ROOT / "constraints.txt")
    build = [f"{name}={os.environ.get(name)}" for name in BUILD_VARIABLES]
    build += sorted(path.name for path in (ROOT / "amodal2").glob("_C*.so"))
    files = [ROOT / name for name in ("setup.py", "pyproject.toml", "csrc")]
    repository = os.environ.get("AMODAL2_DETECTRON2_REPOSITORY", "")
    return {
        "torch": torch,
        "amodal2": digest(torch, *build, *files),
        "detectron2": digest(torch, repository, ROOT / "tools" / "install_detectron2.py"),
        "trackeval": torch,
    }


def run(*command: str | Path) -> None:
    """Run a command, showing only the lines that matter, or its last ones if it fails.

    Raises:
        SetupError: if it fails.
    """
    tail: deque[str] = deque(maxlen=25)
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    # Nothing but the environment's own packages may answer an import during the installation.
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    with process:
        for line in process.stdout:
            tail.append(line.rstrip())
            if line.strip().startswith(SHOWN_LINES):
                print(line.strip(), flush=True)
    if process.returncode:
        print("\n".join(tail), file=sys.stderr)
        shown = " ".join(str(part) for part in command[1:5])
        raise SetupError(f"expected '{shown} ...' to succeed, got status {process.returncode}")


class Environment:
    """A virtual environment and the record of what was done in it.

    Attributes:
        created: this script made the environment and may remove it.
        complete: all steps were done once; a later failure leaves the environment in place.
        keys: hash of each step that is up to date.
    """

    def __init__(self, folder: Path) -> None:
        """Read the record; an environment of ours that is broken or half-made is removed."""
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.record = folder / RECORD
        self.created, self.complete, self.keys = False, False, {}
        if self.record.is_file():
            known = json.loads(self.record.read_text(encoding="utf-8"))
            self.created, self.complete, self.keys = (
                known[name] for name in ("created", "complete", "keys")
            )
            if self.created and not (self.complete and self.works()):
                self.remove()

    def works(self) -> bool:
        """Say whether the interpreter starts."""
        try:
            return subprocess.run([str(self.python), "-c", ""], check=False).returncode == 0
        except OSError:
            return False

    def save(self) -> None:
        """Write the record."""
        known = {"created": self.created, "complete": self.complete, "keys": self.keys}
        temporary = self.record.with_suffix(".part")
        temporary.write_text(json.dumps(known) + "\n", encoding="utf-8")
        temporary.replace(self.record)

    def remove(self) -> None:
        """Delete the environment."""
        shutil.rmtree(self.folder)
        self.created, self.complete, self.keys = False, False, {}

    def make(self) -> None:
        """Make the environment if its folder is absent or empty.

        Raises:
            SetupError: if something else is there, or Python's venv module is incomplete.
        """
        if self.python.exists():
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise SetupError(f"expected VENV to be an environment or absent, got {self.folder}")
        if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
            raise SetupError(
                f"expected Python's venv module, got none in {sys.executable}; "
                "install it (Debian, Ubuntu: apt install python3-venv)"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.created = True
        self.save()
        print(f"setup: making the environment {self.folder}", flush=True)
        run(sys.executable, "-m", "venv", self.folder)

    def do(self, step: str, again: bool) -> None:
        """Do one step; ``again`` says that it was done before with other inputs."""
        pip = (self.python, "-m", "pip", "install", "-c", ROOT / "constraints.txt")
        if step == "torch":
            print("setup: installing torch and torchvision (several GB, minutes)", flush=True)
            run(*pip, "setuptools", "wheel", "ninja", "torch", "torchvision")
        elif step == "amodal2":
            print("setup: building and installing amodal2", flush=True)
            run(*pip, "-v", "--no-build-isolation", "-e", f"{ROOT}[dev,diffusion,physics]")
        elif step == "trackeval":
            # The tests' reference of the tracking metrics; it would put a GUI opencv over ours.
            run(*pip, "--no-deps", "trackeval")
        else:
            print("setup: installing Detectron2", flush=True)
            force = ["--force"] if again else []
            run(self.python, ROOT / "tools" / "install_detectron2.py", *force)

    def update(self) -> None:
        """Make the environment and do each step whose inputs have changed."""
        try:
            self.make()
            for step, key in step_keys().items():
                before = self.keys.get(step)
                if before != key:
                    self.keys.pop(step, None)
                    self.save()
                    self.do(step, again=before is not None)
                    # Asked again, since a build changes which extensions there are.
                    self.keys[step] = step_keys()[step]
                    self.save()
            if not self.complete:
                self.complete = True
                self.save()
        except BaseException:
            if self.created and not self.complete:
                self.remove()
            raise


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, update the environment and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="default: .venv")
    arguments = parser.parse_args(argv)
    try:
        if sys.version_info < (3, 11):  # noqa: UP036 - this script is run before anything is checked
            got = ".".join(map(str, sys.version_info[:3]))
            raise SetupError(f"expected Python 3.11 or later, got {got}")
        Environment(arguments.venv.expanduser().absolute()).update()
    except SetupError as e:
        print(f"setup: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
