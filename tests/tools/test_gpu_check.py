"""Tests of tools/gpu_check.py with commands that need no GPU."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import load_script

script = load_script("tools/gpu_check.py")


def part(name: str, code: str, limit_s: int = 60, needs: str | None = None):
    command = [sys.executable, "-c", code]
    return script.Part(name, command, limit_s, {"AMODAL2_PROBE": "seen"}, needs)


def test_gpu_check_without_gpu_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "out"
    assert script.main(["--out", str(out)]) == 1
    assert capsys.readouterr().err == "gpu_check: expected a CUDA device, got none\n"
    assert not out.exists()


def test_gpu_check_unknown_part_stops(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        script.main(["--out", str(tmp_path), "--parts", "bulid"])
    assert stopped.value.code == 2
    assert "'bulid'" in capsys.readouterr().err


def test_list_parts_fit_into_ten_minutes(tmp_path):
    parts = {part.name: part for part in script.list_parts("9.0", tmp_path, "some test")}
    assert list(parts) == ["build", "environment", "tests", "memcheck", "benchmark"]
    assert sum(part.limit_s for part in parts.values()) <= 600
    assert parts["build"].environment["TORCH_CUDA_ARCH_LIST"] == "9.0"
    assert parts["memcheck"].command[-2:] == ["-k", "some test"]
    assert parts["benchmark"].command[-1] == str(tmp_path / "benchmark.json")


def test_run_parts_goes_on_after_a_failure_and_records_it(tmp_path, capsys):
    parts = [
        part("tests", "print('the reason'); raise SystemExit(3)"),
        part("memcheck", "", needs="no-such-program"),
        part("benchmark", "import os; print(os.environ['AMODAL2_PROBE'])"),
    ]
    assert not script.run_parts(parts, tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert [result["status"] for result in found] == [
        "failed: status 3",
        "skipped: no-such-program is not on the path",
        "passed",
    ]
    assert "the reason" in capsys.readouterr().out
    assert (tmp_path / "benchmark.log").read_text() == "seen\n"


def test_run_parts_failed_build_ends_the_run(tmp_path):
    assert not script.run_parts([part("build", "raise SystemExit(1)"), part("tests", "")], tmp_path)
    assert [x["name"] for x in json.loads((tmp_path / "summary.json").read_text())] == ["build"]


def test_run_parts_skipped_and_passed_is_well(tmp_path):
    assert script.run_parts([part("a", ""), part("b", "", needs="no-such-program")], tmp_path)


def test_run_part_at_its_limit_is_stopped_with_its_children(tmp_path):
    waiting = script.Part("tests", ["sh", "-c", "sleep 600 & echo $!; wait"], 1, {})
    assert script.run_part(waiting, tmp_path).status == "timed out: more than 1 s"
    child = int((tmp_path / "tests.log").read_text())
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
