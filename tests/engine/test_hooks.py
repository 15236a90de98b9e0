"""Hooks of the training loop."""

import os
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from amodal2.checkpoint import AmodalCheckpointer
from amodal2.engine import CheckpointHook, ScheduleHook
from amodal2.utils.files import atomic_write


def run(hook, iterations, max_iter=10):
    hook.trainer = SimpleNamespace(iter=0, max_iter=max_iter, seed=5)
    for hook.trainer.iter in iterations:
        hook.after_step()


@pytest.mark.parametrize(
    ("period", "keep", "kept"),
    [
        (3, 0, ["model_0000002.pth", "model_0000005.pth", "model_0000008.pth", "model_final.pth"]),
        (3, 2, ["model_0000005.pth", "model_0000008.pth", "model_final.pth"]),
        (0, 0, ["model_final.pth"]),
        (5, 1, ["model_0000004.pth", "model_final.pth"]),
    ],
)
def test_checkpoint_hook_writes_when_due_and_keeps_the_newest(tmp_path, period, keep, kept):
    hook = CheckpointHook(AmodalCheckpointer(nn.Linear(1, 1), tmp_path), period, keep)
    run(hook, range(10))
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == kept
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_checkpoint_hook_removes_those_of_an_earlier_process(tmp_path):
    run(CheckpointHook(AmodalCheckpointer(nn.Linear(1, 1), tmp_path), 2), range(6))
    run(CheckpointHook(AmodalCheckpointer(nn.Linear(1, 1), tmp_path), 2, keep=2), range(6, 8))
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == [
        "model_0000005.pth",
        "model_0000007.pth",
    ]


@pytest.mark.parametrize("age", [3600, -3600])
def test_checkpoint_hook_fresh_run_keeps_its_own_beside_higher_numbers(tmp_path, age):
    old = tmp_path / "model_0009999.pth"
    old.touch()
    os.utime(old, (time.time() - age,) * 2)
    run(CheckpointHook(AmodalCheckpointer(nn.Linear(1, 1), tmp_path), 2, keep=1), range(2))
    assert [p.name for p in tmp_path.glob("*.pth")] == ["model_0000001.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"


def test_checkpoint_hook_removes_what_a_killed_process_left(tmp_path):
    with atomic_write(tmp_path / "model_0000003.pth") as partial:
        (tmp_path / partial.name.replace(".part", "x.part")).write_bytes(b"half")
    CheckpointHook(AmodalCheckpointer(nn.Linear(1, 1), tmp_path), 2).before_train()
    assert [p.name for p in tmp_path.iterdir()] == ["model_0000003.pth"]


def test_checkpoint_hook_stores_iteration_and_seed(tmp_path):
    run(CheckpointHook(AmodalCheckpointer(nn.Linear(1, 1), tmp_path), 4), range(4))
    stored = torch.load(tmp_path / "model_0000003.pth", weights_only=True)
    assert (stored["iteration"], stored["seed"]) == (3, 5)


def test_schedule_hook_logs_the_largest_rate_then_steps():
    layers = [nn.Linear(1, 1), nn.Linear(1, 1)]
    optimizer = torch.optim.SGD(
        [
            {"params": layer.parameters(), "lr": lr}
            for layer, lr in zip(layers, (0.1, 1.0), strict=True)
        ]
    )
    logged = {}
    hook = ScheduleHook()
    hook.trainer = SimpleNamespace(
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.5**i),
        storage=SimpleNamespace(put_scalar=lambda name, value, **_: logged.update({name: value})),
    )
    optimizer.step()
    hook.after_step()
    assert logged == {"lr": 1.0}
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.05, 0.5])
