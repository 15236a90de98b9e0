"""The training loop: resuming, random states, non-finite losses, several processes, evaluation."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

import amodal2.modeling  # noqa: F401 registers the systems
from amodal2.engine import AmodalTrainer
from amodal2.engine import trainer as trainer_module
from amodal2.engine.trainer import seed_everything
from amodal2.utils.detectron2_compat import launch
from amodal2.utils.errors import CheckpointError
from tests.engine import toy
from tests.modeling.tiny import TINY_KEYS

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(tmp_path, name, *opts, resume=False):
    trainer = AmodalTrainer(toy.toy_config(tmp_path / "data", tmp_path / name, *opts))
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def weights(trainer):
    return {key: value.clone() for key, value in trainer.checkpointer.model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


def test_trainer_loss_falls(tmp_path):
    train(tmp_path, "run", "SOLVER.MAX_ITER", 60, "SOLVER.CHECKPOINT_PERIOD", 0)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.json").open()]
    assert lines[-1]["iteration"] == 59
    assert lines[-1]["total_loss"] < 0.8 * lines[0]["total_loss"]
    assert {"loss_visible", "loss_amodal", "lr", "data_time", "time"} <= lines[-1].keys()


@pytest.mark.slow
def test_trainer_killed_and_resumed_gives_the_same_weights(tmp_path):
    opts = (
        "SOLVER.MAX_ITER",
        "60",
        "SOLVER.CHECKPOINT_PERIOD",
        "4",
        "SOLVER.CHECKPOINTS_KEPT",
        "2",
    )
    command = [sys.executable, "-W", "ignore", toy.__file__, str(tmp_path), *opts]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(
        [*command, "DATALOADER.NUM_WORKERS", "1"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = tmp_path / "run"
    deadline = time.monotonic() + 300
    while not (folder / "model_0000007.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (folder / "model_final.pth").exists()
    resumed = train(tmp_path, "run", *opts, resume=True)
    assert 4 <= resumed.start_iter < 60  # 8 if last_checkpoint was written before the kill
    whole = train(tmp_path, "whole", *opts)
    assert whole.start_iter == 0
    assert_same(weights(resumed), weights(whole))


@pytest.mark.parametrize("stop", [2, 6])
def test_trainer_resume_from_any_checkpoint_gives_the_same_weights(tmp_path, stop):
    whole = train(tmp_path, "run")
    (tmp_path / "run" / "last_checkpoint").write_text(f"model_{stop - 1:07d}.pth")
    resumed = train(tmp_path, "run", "DATALOADER.NUM_WORKERS", 2, resume=True)
    assert resumed.start_iter == stop
    assert_same(weights(resumed), weights(whole))


def test_trainer_finished_run_resumes_to_nothing(tmp_path):
    first = train(tmp_path, "run")
    again = train(tmp_path, "run", resume=True)
    assert again.start_iter == again.max_iter
    assert_same(weights(first), weights(again))


def test_trainer_random_seed_is_kept_by_resume(tmp_path):
    first = train(tmp_path, "run", "SEED", -1)
    assert first.seed >= 0
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000005.pth")
    again = train(tmp_path, "run", "SEED", -1, resume=True)
    assert again.seed == again.cfg.SEED == first.seed
    assert_same(weights(first), weights(again))


def test_trainer_resume_into_another_model_raises(tmp_path, monkeypatch):
    train(tmp_path, "run", "SOLVER.MAX_ITER", 2)
    trainer = AmodalTrainer(toy.toy_config(tmp_path / "data", tmp_path / "run"))
    trainer.checkpointer.model.extra = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"2 missing from the file: extra.weight, extra.bias"):
        trainer.resume_or_load(resume=True)


def test_trainer_weights_start_at_iteration_zero(tmp_path):
    first = train(tmp_path, "run")
    final = str(tmp_path / "run" / "model_final.pth")
    cfg = toy.toy_config(tmp_path / "data", tmp_path / "other", "MODEL.WEIGHTS", final)
    trainer = AmodalTrainer(cfg)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 0
    assert trainer.optimizer.state == {}
    assert_same(weights(first), weights(trainer))


@pytest.mark.parametrize("given", [False, True])
def test_trainer_warns_of_fixed_parts_without_weights(tmp_path, caplog, given):
    path = tmp_path / "weights.pth"
    trainer = AmodalTrainer(toy.toy_config(tmp_path / "data", tmp_path / "run"))
    model = trainer.checkpointer.model
    stored = {name: x for name, x in model.state_dict().items() if "backbone.norm" not in name}
    stored["head.weight"] = torch.zeros(3, 8, 1, 1)
    torch.save(stored, path)
    weights = str(path) if given else ""
    opts = ("MODEL.WEIGHTS", weights)
    trainer = AmodalTrainer(toy.toy_config(tmp_path / "data", tmp_path / "run", *opts))
    trainer.resume_or_load(resume=False)
    assert "not trained" not in caplog.text
    trainer.checkpointer.model.requires_grad_(False)
    trainer.resume_or_load(resume=False)
    expected = "backbone (2), head (1);" if given else "backbone (4), head (2), table (1);"
    assert f"has none for them: {expected}" in caplog.text


@pytest.mark.parametrize(("fixed", "classes"), [(True, 80), (True, 3), (False, 80)])
def test_trainer_warns_of_a_fixed_detector_of_other_classes(tmp_path, caplog, fixed, classes):
    path = tmp_path / "coco.pth"
    keys = [*TINY_KEYS, "MODEL.META_ARCHITECTURE", "A2VIS", "INPUT.FORMAT", "RGB"]
    keys += ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.WEIGHTS", str(path)]
    keys += ["MODEL.A2VIS.FREEZE_DETECTOR", fixed]
    trainer = AmodalTrainer(toy.toy_config(tmp_path / "data", tmp_path / "run", *keys))
    state = trainer.checkpointer.model.state_dict()
    state["sem_seg_head.predictor.class_embed.weight"] = torch.zeros(classes + 1, 32)
    state["sem_seg_head.predictor.class_embed.bias"] = torch.zeros(classes + 1)
    torch.save(state, path)
    trainer.resume_or_load(resume=False)
    found = "comes from weights for 80 classes instead of 3" in caplog.text
    assert found == (fixed and classes == 80)


def test_trainer_without_tensorboard_writes_the_other_metrics(tmp_path, monkeypatch):
    trainer = AmodalTrainer(toy.toy_config(tmp_path / "data", tmp_path / "run"))
    monkeypatch.setattr(trainer_module, "TensorboardXWriter", lambda folder: "tensorboard")
    assert trainer.build_writers()[2:] == ["tensorboard"]
    monkeypatch.setattr(trainer_module.importlib.util, "find_spec", lambda name: None)
    assert len(trainer.build_writers()) == 2


@pytest.mark.parametrize("term", ["loss_visible", "loss_amodal"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_trainer_non_finite_loss_stops_before_the_step(tmp_path, term, value):
    trainer = AmodalTrainer(toy.toy_config(tmp_path / "data", tmp_path / "run"))
    model = trainer.model
    before = {}

    class Broken(nn.Module):
        def forward(self, batch):
            losses = model(batch)
            if trainer.iter == 3:
                before.update(weights(trainer))
                losses[term] = losses[term] * value
            return losses

    trainer.model = Broken()
    with pytest.raises(FloatingPointError, match=rf"at iteration 3, got {term} = {value};"):
        trainer.train()
    assert_same(before, weights(trainer))
    assert trainer.checkpointer.get_checkpoint_file().endswith("model_0000001.pth")


@pytest.mark.parametrize("kind", ["full_model", "norm", "value", None])
def test_trainer_non_finite_gradient_stops_before_the_step(tmp_path, kind):
    clip = ("SOLVER.CLIP_GRADIENTS.ENABLED", kind is not None)
    if kind:
        clip += ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind)
    trainer = AmodalTrainer(toy.toy_config(tmp_path / "data", tmp_path / "run", *clip))
    parameter = trainer.model.head.bias
    trainer.model = lambda batch: {"loss": torch.sqrt((parameter * 0).abs().sum())}
    trainer.model.train = lambda: None
    with pytest.raises(FloatingPointError, match="got the gradient norm = nan"):
        trainer.train()
    assert torch.isfinite(parameter).all()


@pytest.mark.parametrize(("pays", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_trainer_amp_is_bfloat16_where_that_pays(tmp_path, monkeypatch, caplog, pays, dtype):
    monkeypatch.setattr(trainer_module, "bfloat16_pays", lambda device_type: pays)
    trainer = AmodalTrainer(
        toy.toy_config(
            tmp_path / "data", tmp_path / "run", "SOLVER.AMP.ENABLED", True, "SOLVER.MAX_ITER", 1
        )
    )
    seen = []
    trainer.model.head.register_forward_hook(lambda m, args, out: seen.append(out.dtype))
    trainer.train()
    assert set(seen) == {dtype}
    assert trainer.model.head.weight.dtype == torch.float32
    assert ("SOLVER.AMP.ENABLED is ignored" in caplog.text) != pays


def test_trainer_evaluates_periodically_without_changing_the_training(tmp_path, monkeypatch):
    plain = train(tmp_path, "plain")
    calls = []

    def evaluate(cfg, model):
        calls.append(torch.rand(3))
        return OrderedDict(amodal={"AP": 50.0})

    monkeypatch.setattr(AmodalTrainer, "test", staticmethod(evaluate))
    evaluated = train(
        tmp_path, "run", "TEST.EVAL_PERIOD", 4, "DATASETS.TEST", ("toy_v1_amodal_train",)
    )
    assert len(calls) == 3
    assert_same(weights(plain), weights(evaluated))
    assert (
        json.loads((tmp_path / "run" / "metrics.json").read_text().splitlines()[-1])["amodal/AP"]
        == 50.0
    )


@pytest.mark.slow
def test_trainer_two_processes_give_the_gradients_of_one(tmp_path):
    cfg = toy.toy_config(
        tmp_path / "data",
        tmp_path / "one",
        *("MODEL.MASK_FORMER.DROPOUT", 0.0, "SOLVER.MAX_ITER", 3),
    )
    trainer = AmodalTrainer(cfg)
    trainer.train()
    expected = {name: p.grad for name, p in trainer.model.named_parameters()}
    out = tmp_path / "two"
    launch(toy.gradient_process, 2, device="cpu", args=(str(tmp_path / "data"), str(out)))
    for rank in range(2):
        result = torch.load(out / f"rank{rank}.pth")
        assert result["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(result["gradients"][name], gradient, atol=1e-5, rtol=0)
        assert "at iteration 0, got loss_amodal = nan" in result["error"]
        assert result["gathered"] == [{"rank": r, "local": r} for r in range(2)]


def test_trainer_parts_of_a_batch_give_the_weights_of_the_whole(tmp_path):
    opts = ("MODEL.MASK_FORMER.DROPOUT", 0.0, "SOLVER.CLIP_GRADIENTS.ENABLED", True)
    opts += (
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
        "full_model",
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
        0.1,
    )
    whole = weights(train(tmp_path, "whole", *opts))
    parts = weights(train(tmp_path, "parts", *opts, "SOLVER.ACCUMULATE", 2))
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    logs = [
        [json.loads(line) for line in (tmp_path / name / "metrics.json").open()][-1]
        for name in ("whole", "parts")
    ]
    for key in ("total_loss", "grad_norm", "lr"):
        assert logs[0][key] == pytest.approx(logs[1][key], abs=1e-5)


def test_trainer_parts_resume_with_the_same_weights(tmp_path):
    parts = ("SOLVER.ACCUMULATE", 2)
    whole = train(tmp_path, "run", *parts)
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000003.pth")
    resumed = train(tmp_path, "run", *parts, resume=True)
    assert resumed.start_iter == 4
    assert_same(weights(resumed), weights(whole))


@pytest.mark.parametrize("parts", [0, 3])
def test_trainer_unequal_parts_raise(tmp_path, parts):
    cfg = toy.toy_config(tmp_path / "data", tmp_path / "run", "SOLVER.ACCUMULATE", parts)
    with pytest.raises(ValueError, match=f"IMS_PER_BATCH = 4 on 1 processes .* got {parts}"):
        AmodalTrainer(cfg)


def test_trainer_other_batch_than_the_reference_scales_the_schedule(tmp_path):
    opts = ("SOLVER.REFERENCE_BATCH", 8, "SOLVER.STEPS", (6,))
    trainer = AmodalTrainer(toy.toy_config(tmp_path / "data", tmp_path / "run", *opts))
    assert trainer.max_iter == 24
    assert trainer.optimizer.param_groups[-1]["initial_lr"] == 0.005
    assert trainer.scheduler.lr_lambdas[0](11) == 1.0
    assert trainer.scheduler.lr_lambdas[0](12) == pytest.approx(0.1)


def test_seed_everything_same_key_same_numbers():
    def draw(*key):
        seed_everything(*key)
        return torch.rand(4)

    assert torch.equal(draw(1, 2, 0), draw(1, 2, 0))
    assert not torch.equal(draw(1, 2, 0), draw(1, 3, 0))
    assert not torch.equal(draw(1, 2, 0), draw(1, 2, 1))
