"""Parameter groups, schedules and gradient clipping."""

import math

import pytest
import torch
from torch import nn

from amodal2.config import get_cfg
from amodal2.engine.optimizer import (
    build_optimizer,
    build_scheduler,
    clip_gradients,
    lr_multiplier,
    parameter_groups,
    scale_to_batch,
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.ModuleDict(
            {"norm": nn.LayerNorm(4), "table": nn.Embedding(5, 4), "linear": nn.Linear(4, 4)}
        )
        self.relative_position_bias_table = nn.Parameter(torch.zeros(3))


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = 1.0
    cfg.SOLVER.WEIGHT_DECAY = 0.05
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
    return cfg


def settings(cfg, model):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[p]: (g["lr"], g["weight_decay"])
        for g in parameter_groups(cfg, model)
        for p in g["params"]
    }


def test_parameter_groups_follow_the_solver_keys(cfg):
    assert settings(cfg, Net()) == {
        "backbone.0.weight": (0.1, 0.05),
        "backbone.0.bias": (0.1, 0.05),
        "backbone.1.weight": (0.1, 0.0),
        "backbone.1.bias": (0.1, 0.0),
        "head.norm.weight": (1.0, 0.0),
        "head.norm.bias": (1.0, 0.0),
        "head.table.weight": (1.0, 0.0),
        "head.linear.weight": (1.0, 0.05),
        "head.linear.bias": (1.0, 0.05),
        "relative_position_bias_table": (1.0, 0.0),
    }


def test_parameter_groups_one_per_distinct_setting(cfg):
    assert len(parameter_groups(cfg, Net())) == 4


def test_parameter_groups_frozen_and_shared_parameters_appear_never_and_once(cfg):
    model = Net()
    model.backbone.requires_grad_(False)
    model.other = nn.Linear(4, 4)
    model.other.weight = model.head["linear"].weight
    listed = [p for g in parameter_groups(cfg, model) for p in g["params"]]
    assert len(listed) == len(set(listed)) == 7


@pytest.mark.parametrize(("name", "kind"), [("ADAMW", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_build_optimizer_makes_the_named_one(cfg, name, kind):
    cfg.SOLVER.OPTIMIZER = name
    assert isinstance(build_optimizer(cfg, Net()), kind)


def test_build_optimizer_adamw_takes_its_moments_from_the_keys(cfg):
    cfg.SOLVER.ADAMW_BETAS, cfg.SOLVER.ADAMW_EPS = (0.5, 0.9), 1e-6
    defaults = build_optimizer(cfg, Net()).defaults
    assert (defaults["betas"], defaults["eps"]) == ((0.5, 0.9), 1e-6)


def test_build_optimizer_wrong_input_raises(cfg):
    with pytest.raises(ValueError, match="expected trainable parameters"):
        build_optimizer(cfg, Net().requires_grad_(False))
    cfg.SOLVER.OPTIMIZER = "LAMB"
    with pytest.raises(ValueError, match="'ADAMW' or 'SGD', got 'LAMB'"):
        build_optimizer(cfg, Net())


def test_scale_to_batch_larger_batch_learns_faster_in_fewer_iterations(cfg):
    cfg.SOLVER.REFERENCE_BATCH, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR_END = 8, 32, 0.5
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = 90000, (60000, 80002), 2
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = 5000, 0
    scaled = scale_to_batch(cfg)
    solver = scaled.SOLVER
    assert (solver.BASE_LR, solver.BASE_LR_END) == (4.0, 2.0)
    assert (solver.MAX_ITER, solver.STEPS) == (22500, (15000, 20000))
    assert (solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (1, 1250, 0)
    assert cfg.SOLVER.BASE_LR == 1.0
    assert scale_to_batch(scaled) == scaled


@pytest.mark.parametrize("reference", [0, 16])
def test_scale_to_batch_without_another_reference_changes_nothing(cfg, reference):
    cfg.SOLVER.REFERENCE_BATCH, cfg.SOLVER.IMS_PER_BATCH = reference, 16
    assert scale_to_batch(cfg) == cfg


def test_scale_to_batch_negative_reference_raises(cfg):
    cfg.SOLVER.REFERENCE_BATCH = -1
    with pytest.raises(ValueError, match="REFERENCE_BATCH of at least 0, got -1"):
        scale_to_batch(cfg)


def test_lr_multiplier_multistep_warms_up_then_drops(cfg):
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupMultiStepLR"
    cfg.SOLVER.STEPS, cfg.SOLVER.GAMMA, cfg.SOLVER.MAX_ITER = (60, 80), 0.1, 100
    cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WARMUP_FACTOR = 10, 0.2
    factor = lr_multiplier(cfg)
    found = [factor(i) for i in (0, 5, 10, 59, 60, 80, 99)]
    assert found == pytest.approx([0.2, 0.6, 1.0, 1.0, 0.1, 0.01, 0.01])


def test_lr_multiplier_cosine_ends_at_base_lr_end(cfg):
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WARMUP_FACTOR = 100, 20, 0.01
    cfg.SOLVER.BASE_LR_END = 0.25
    factor = lr_multiplier(cfg)
    at_warmup_end = 0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi * 0.2))
    assert factor(0) == pytest.approx(0.01)
    assert factor(10) == pytest.approx((0.01 + at_warmup_end) / 2)
    assert factor(20) == pytest.approx(at_warmup_end)
    assert factor(100) == pytest.approx(0.25)


def test_lr_multiplier_cosine_without_iterations_raises(cfg):
    cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.MAX_ITER = "WarmupCosineLR", 0
    with pytest.raises(ValueError, match=r"expected SOLVER.MAX_ITER of at least 1 .*, got 0"):
        lr_multiplier(cfg)


def test_lr_multiplier_linear_goes_up_and_down_to_zero(cfg):
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupLinearLR"
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WARMUP_FACTOR = 120, 20, 0.0
    factor = lr_multiplier(cfg)
    found = [factor(i) for i in (0, 10, 20, 70, 120, 121)]
    assert found == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0, 0.0])


def test_lr_multiplier_agrees_with_detectron2(cfg):
    from detectron2.solver import build_lr_scheduler

    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.STEPS = 50, 10, (30,)
    for name in ("WarmupMultiStepLR", "WarmupCosineLR"):
        cfg.SOLVER.LR_SCHEDULER_NAME = name
        rates = []
        for build in (build_scheduler, build_lr_scheduler):
            optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
            scheduler = build(cfg, optimizer)
            rates.append([])
            for _ in range(50):
                rates[-1].append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
        assert rates[0] == pytest.approx(rates[1], abs=1e-9)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("LR_SCHEDULER_NAME", "OneCycle", "got 'OneCycle'"),
        ("WARMUP_METHOD", "cosine", "got 'cosine'"),
    ],
)
def test_lr_multiplier_unknown_name_raises(cfg, key, value, message):
    cfg.SOLVER[key] = value
    with pytest.raises(ValueError, match=message):
        lr_multiplier(cfg)


def make_gradients():
    parameters = [
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(2)),
    ]
    parameters[0].grad = torch.tensor([3.0, 0.0])
    parameters[1].grad = torch.tensor([0.0, 4.0])
    return parameters


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("full_model", (0.6, 0.8)), ("norm", (1.0, 1.0)), ("value", (1.0, 1.0))],
)
def test_clip_gradients_limits_the_gradients(cfg, kind, expected):
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = kind
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    parameters = make_gradients()
    norm = clip_gradients(cfg, parameters)
    assert (parameters[0].grad[0].item(), parameters[1].grad[1].item()) == pytest.approx(
        expected, abs=1e-5
    )
    assert parameters[2].grad is None
    assert norm.item() == pytest.approx(5.0)


def test_clip_gradients_disabled_changes_nothing(cfg):
    parameters = make_gradients()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    assert clip_gradients(cfg, parameters).item() == pytest.approx(5.0)
    assert parameters[1].grad[1] == 4.0


def test_clip_gradients_unknown_kind_raises(cfg):
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "layer"
    with pytest.raises(ValueError, match="got 'layer'"):
        clip_gradients(cfg, make_gradients())
