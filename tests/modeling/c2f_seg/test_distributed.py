"""Training in several processes: gradients are averaged, unlike in the official code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tests.conftest import REPOSITORY


def run(system, world, folder):
    """Return the gradients of every rank."""
    script = str(REPOSITORY / "tests" / "modeling" / "c2f_seg" / "distributed_step.py")
    output = folder / f"{system}{world}"
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(r), str(world), f"{output}.meeting", system, str(output)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            cwd=REPOSITORY,
        )
        for r in range(world)
    ]
    assert [process.wait(timeout=300) for process in ranks] == [0] * world
    return [torch.load(f"{output}.{r}", weights_only=True) for r in range(world)]


@pytest.mark.slow
def test_mask_vq_two_processes_give_the_gradients_of_one(tmp_path):
    (one,) = run("MaskVQ", 1, tmp_path)
    for found in run("MaskVQ", 2, tmp_path):
        for name, gradient in one.items():
            largest = max(1.0, float(gradient.abs().max()))
            assert float((found[name] - gradient).abs().max()) <= 1e-9 * largest, name


@pytest.mark.slow
def test_c2f_seg_ranks_share_one_gradient(tmp_path):
    first, second = run("C2FSeg", 2, tmp_path)
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(second[name], gradient)
    assert sum(float(gradient.abs().sum()) > 0 for gradient in first.values()) > 200
