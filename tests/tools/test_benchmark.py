"""The benchmark tool: peers compute the same, every op is listed, the table is printed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from amodal2.ops import op_paths

FILE = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"
TINY = {"ms_deform_attn": (2, [(2, 3), (4, 4)], 2, 8, 3)}


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_tool", FILE)
    tool = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tool
    spec.loader.exec_module(tool)
    yield tool
    del sys.modules[spec.name]


def test_benchmark_registry_has_every_op(benchmark):
    assert set(benchmark.BENCHMARKS) == set(op_paths()) == set(TINY)


@pytest.mark.parametrize("name", TINY)
def test_benchmark_case_stock_and_amodal2_agree(benchmark, name):
    entry = benchmark.BENCHMARKS[name]
    rows = list(benchmark.run_case(entry, TINY[name], torch.float64, 1, lambda: 0.0))
    assert [row[0] for row in rows] == ["forward", "backward"]
    assert max(row[3] for row in rows) < 1e-12


def test_benchmark_main_prints_one_row_per_case_and_pass(benchmark, monkeypatch, capsys):
    tiny = {
        name: benchmark.Benchmark({"tiny": TINY[name]}, entry.make, entry.stock, entry.ours)
        for name, entry in benchmark.BENCHMARKS.items()
    }
    monkeypatch.setattr(benchmark, "BENCHMARKS", tiny)
    monkeypatch.setattr(
        sys, "argv", ["benchmark.py", "--op", "ms_deform_attn", "--rounds", "1", "--threads", "1"]
    )
    threads = torch.get_num_threads()
    benchmark.main()
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ms_deform_attn: CPU: ")
    assert [line.split()[2] for line in lines[2:]] == ["forward", "backward"]
