"""Tests of tools/sanitize_ops.py; nothing is compiled here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amodal2.ops import HAS_C
from tests.conftest import REPOSITORY, load_script

script = load_script("tools/sanitize_ops.py")


def write_compiler(folder: Path) -> str:
    """Make a compiler that looks for its libraries in its folder."""
    compiler = folder / "compiler"
    compiler.write_text(f"#!/bin/sh\necho {folder}/${{1#-print-file-name=}}\n")
    compiler.chmod(0o755)
    return str(compiler)


def test_preloaded_names_the_sanitizer_first(tmp_path):
    compiler = write_compiler(tmp_path)
    libraries = [tmp_path / "libasan.so", tmp_path / "libstdc++.so"]
    for library in libraries:
        library.touch()
    assert script.preloaded(compiler) == " ".join(map(str, libraries))


def test_preloaded_without_a_sanitizer_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected libasan\.so of .*compiler, got none"):
        script.preloaded(write_compiler(tmp_path))


@pytest.mark.skipif(not HAS_C, reason="amodal2._C is not built")
def test_run_with_another_extension_than_the_sanitized_one_fails(tmp_path):
    command = [sys.executable, "-c", script.RUN, str(tmp_path), str(REPOSITORY), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
    assert "amodal2/_C" in done.stderr


def test_main_returns_the_status_of_the_tests(tmp_path, monkeypatch, capsys):
    seen = {}

    def run(command, **options):
        seen.update(command=command, environment=options["env"])
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(script, "build", lambda folder, compiler: folder / "lib")
    monkeypatch.setattr(script, "preloaded", lambda compiler: f"libasan of {compiler}")
    monkeypatch.setattr(script.subprocess, "run", run)
    arguments = ["--folder", str(tmp_path), "--compiler", "g++-13", "--", "-k", "empty"]
    assert script.main(arguments) == 7
    assert seen["command"][-2:] == ["-k", "empty"]
    assert str(tmp_path / "lib") in seen["command"]
    assert seen["environment"]["LD_PRELOAD"] == "libasan of g++-13"
    assert os.environ.get("LD_PRELOAD") is None
    assert "tests ran" in capsys.readouterr().out
