"""The benchmark tool: cases agree with their peers, results are complete, errors are seen."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import partial

import pytest
import torch

from tests.conftest import REPOSITORY, load_script

CONFIG = REPOSITORY / "configs/a2vis/quick/a2vis_aquarium.yaml"
FIELDS = {
    *("op", "case", "dtype", "device", "threads", "ours_ms", "peer", "peer_ms", "ratio"),
    *("peers_ms", "memory_mb", "peer_memory_mb", "roofline", "difference", "agrees", "floor"),
}


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/benchmark.py")


@pytest.fixture(scope="module")
def measure(tool):
    return tool.load_module("measure")


@pytest.fixture
def tiny_cases(tool, monkeypatch):
    """Put cases of a product of matrices in place of the real ones and return the list of them."""
    registry = tool.load_module("registry")
    case = registry.Case(
        op="mask_rle",
        name="square",
        make=lambda device, dtype: torch.arange(64.0, device=device).view(8, 8).to(dtype),
        ours=lambda x: x @ x,
        peers=[
            registry.Peer("slow", lambda x: sum(x @ x for _ in range(200)) / 200),
            registry.Peer("einsum", lambda x: torch.einsum("ij,jk->ik", x, x)),
        ],
        flops=2 * 8**3,
        bytes=3 * 8 * 8 * 4,
    )
    cases = [case]
    monkeypatch.setattr(tool, "load_cases", lambda: cases)
    monkeypatch.setattr(tool, "CasesRun", _without_roofline(tool.CasesRun))
    return cases


def _without_roofline(base):
    """Spare the tests the measurement of the machine's speed, of which they make up a value."""

    class Run(base):
        def __init__(self, device, args):
            self.copy_bytes, self.matmul_flops = 1e9, {}
            self.measure, self.device, self.args = _measure(), device, args
            self.clock = partial(self.measure.read_clock, device, args.cpu_time)

    return Run


def _measure():
    return load_script("tools/benchmark.py").load_module("measure")


@pytest.fixture(autouse=True)
def _restore_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run_ops(tool, *options: str) -> int:
    return tool.main(["ops", "--rounds", "1", "--threads", "1", *options])


def test_benchmark_cases_have_unique_names_of_known_ops(tool):
    cases = tool.load_cases()
    names = [(case.op, case.name) for case in cases]
    assert len(names) == len(set(names))
    assert {"mask_rle", "mask_rle_decode"} <= {case.op for case in cases} <= set(tool.op_names())


def test_benchmark_ops_writes_complete_json_and_a_table(tool, tiny_cases, tmp_path, capsys):
    file = tmp_path / "ops.json"
    assert run_ops(tool, "--json", str(file)) == 0
    written = json.loads(file.read_text())
    assert written["machine"]["threads"] == 1
    assert written["machine"]["matmul_gflops"].keys() == {"float32", "bfloat16"}
    rows = written["results"]
    assert [row["dtype"] for row in rows] == ["float32", "bfloat16"]
    for row in rows:
        assert row.keys() == FIELDS
        assert row["peer"] == "einsum"
        assert row["peer_ms"] == min(row["peers_ms"].values())
        assert row["ratio"] == pytest.approx(row["peer_ms"] / row["ours_ms"])
        assert row["roofline"] > 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()] == [
        ["op", "case", "dtype"],
        ["mask_rle", "square", "float32"],
        ["mask_rle", "square", "bfloat16"],
    ]


def test_benchmark_ops_disagreement_exits_with_one(tool, tiny_cases, tmp_path, capsys):
    tiny_cases[0] = dataclasses.replace(tiny_cases[0], ours=lambda x: x @ x * 1.001)
    file = tmp_path / "ops.json"
    assert run_ops(tool, "--dtype", "float32", "--json", str(file)) == 1
    assert "mask_rle square: expected the result of the first peer" in capsys.readouterr().err
    assert json.loads(file.read_text())["results"][0]["agrees"] is False


def test_benchmark_ops_low_precision_may_differ_where_float32_agrees(tool, tiny_cases):
    def ours(x):
        return x @ x * (1 if x.dtype == torch.float32 else 1.1)

    tiny_cases[0] = dataclasses.replace(tiny_cases[0], ours=ours)
    assert run_ops(tool) == 0
    tiny_cases[0] = dataclasses.replace(tiny_cases[0], dtypes=(torch.bfloat16,))
    assert run_ops(tool) == 1


@pytest.mark.parametrize(
    "options", [["--case", "nothing*"], ["--op", "mask_rle_decode"], ["--dtype", "int8"]], ids=str
)
def test_benchmark_ops_without_case_exits_with_two(tool, tiny_cases, options, capsys):
    assert run_ops(tool, *options) == 2
    assert "expected cases for these options, got none" in capsys.readouterr().err


def test_benchmark_without_gpu_exits_with_two(tool, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_ops(tool, "--device", "cuda") == 2
    assert "expected a GPU for --device cuda, got none" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["encode", "decode", "areas", "pairs"])
def test_benchmark_mask_rle_case_agrees_with_pycocotools(tool, measure, kind):
    name = f"{kind}_blobs_100x160x240"
    (case,) = (case for case in tool.load_cases() if case.name == name)
    inputs = case.make(torch.device("cpu"), torch.bool)
    assert measure.difference(case.ours(inputs), case.peers[0].run(inputs)) == 0.0


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]), 0.5),
        ((torch.zeros(2), torch.ones(2)), (torch.zeros(2), torch.full((2,), 2.0)), 0.5),
        (torch.ones(2, 3), [torch.ones(3), torch.ones(3)], 0.0),
        (torch.ones(2), torch.ones(3), math.inf),
        (torch.ones(1), [torch.tensor(1.0), torch.tensor(1.0)], math.inf),
        (torch.tensor([math.nan]), torch.tensor([1.0]), math.inf),
        (torch.tensor([math.nan, 1.0]), torch.tensor([math.nan, 1.0]), 0.0),
        (["a"], ["a"], 0.0),
        (["a"], ["b"], math.inf),
        (torch.zeros(0), torch.zeros(0), 0.0),
    ],
    ids=range(10),
)
def test_difference_is_relative_to_the_largest_magnitude(measure, ours, theirs, expected):
    assert measure.difference(ours, theirs) == pytest.approx(expected)


def test_interleaved_medians_functions_take_turns(measure):
    now, order = [0.0], []

    def work(name: str, seconds: float) -> None:
        order.append(name)
        now[0] += seconds

    functions = [lambda: work("a", 0.01), lambda: work("b", 0.03)]
    found = measure.interleaved_medians(functions, 3, lambda: now[0])
    assert found == pytest.approx([10.0, 30.0])
    assert order[4:] == ["a", "b"] * 3


def test_interleaved_medians_short_functions_are_repeated(measure):
    now, calls = [0.0], []

    def work() -> None:
        calls.append(1)
        now[0] += 0.0005

    assert measure.interleaved_medians([work], 2, lambda: now[0]) == pytest.approx([0.5])
    assert len(calls) == 2 + 2 * 4


def test_peak_memory_counts_what_a_call_needs(measure):
    def work() -> int:
        return len(bytearray(b"1" * 20_000_000))

    work()
    found = measure.peak_memory(work, torch.device("cpu"))
    if found is None:
        pytest.skip("the system does not tell the peak")
    assert found == pytest.approx(40, abs=2)


@pytest.mark.slow
def test_benchmark_inference_compares_both_paths(tool, tmp_path, capsys):
    file = tmp_path / "inference.json"
    options = ["--config-file", str(CONFIG), "--size", "32x64", "--frames", "2", "--rounds", "1"]
    options += ["--threads", "1", "--json", str(file), "--opts", "MODEL.WEIGHTS", ""]
    assert tool.main(["inference", *options]) == 0
    written = json.loads(file.read_text())
    assert written["amdahl_bound"] > 1
    assert written["difference"] < 1e-3
    assert written["paths"]["reference"]["ops"] == "AMODAL2_OPS=reference"
    assert written["paths"]["compiled"]["ops"] != "AMODAL2_OPS=reference"
    for path in ("compiled", "reference"):
        found = written["paths"][path]
        assert {"backbone", "sem_seg_head.pixel_decoder", "a2vis.samh"} <= set(found["modules_s"])
        assert sum(found["ops_s"].values()) < found["timed_s"]
        assert "ms_deform_attn" in found["ops_s"]
    printed = capsys.readouterr().out
    assert "2 frames of 32x64" in printed
    assert "bound of Amdahl" in printed


def test_benchmark_inference_against_none_runs_one_process(tool, monkeypatch, capsys):
    started = []

    def measure_path(path, args, logits):
        started.append(path)
        torch.save(torch.zeros(1), logits)
        seconds = {"ops_s": {}, "calls_s": {}, "modules_s": {"backbone": 1.0}}
        return {"seconds_per_frame": 0.5, "peak_mb": 100.0, "timed_s": 1.0, **seconds}

    monkeypatch.setattr(tool.load_module("inference"), "measure_path", measure_path)
    assert tool.main(["inference", "--against", "none", "--size", "32x64", "--frames", "2"]) == 0
    assert started == ["compiled"]
    printed = capsys.readouterr().out
    assert "2.000 frames/s" in printed
    assert [line.split()[-1] for line in printed.splitlines() if "backbone" in line] == ["0.500"]


@pytest.mark.parametrize("text", ["480", "480x", "0x5", "axb"])
def test_benchmark_inference_wrong_size_is_refused(tool, text, capsys):
    with pytest.raises(SystemExit):
        tool.main(["inference", "--size", text])
    assert "expected HEIGHTxWIDTH in pixels" in capsys.readouterr().err


@pytest.mark.slow
def test_benchmark_inference_failed_process_is_named(tool, tmp_path):
    options = ["--config-file", str(tmp_path / "none.yaml"), "--threads", "1"]
    with pytest.raises(RuntimeError, match="the process of the compiled path failed: 1"):
        tool.main(["inference", *options])
