"""Optimiser, learning rate schedule and gradient clipping from the ``SOLVER`` keys."""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable

import torch
from detectron2.config import CfgNode
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)
_POSITION_TABLES = ("relative_position_bias_table", "absolute_pos_embed")


def scale_to_batch(cfg: CfgNode) -> CfgNode:
    """Scale the schedule from ``SOLVER.REFERENCE_BATCH`` to ``SOLVER.IMS_PER_BATCH``.

    For a batch k times as large the learning rates are k times as high, and iterations, steps,
    warm-up and the periods of checkpoints and evaluations 1/k as long, so that as many samples are
    seen (the linear rule; what Detectron2 does for ``REFERENCE_WORLD_SIZE``).

    Args:
        cfg: configuration; not changed.

    Returns:
        CfgNode: a copy; without a reference an equal one.

    Raises:
        ValueError: if the reference is negative.
    """
    cfg = cfg.clone()
    reference = cfg.SOLVER.REFERENCE_BATCH
    if reference < 0:
        raise ValueError(
            f"scale_to_batch: expected SOLVER.REFERENCE_BATCH of at least 0, got {reference}"
        )
    if reference in (0, cfg.SOLVER.IMS_PER_BATCH):
        return cfg
    factor = cfg.SOLVER.IMS_PER_BATCH / reference

    def shorter(length: int) -> int:
        return max(1, round(length / factor)) if length > 0 else length

    cfg.defrost()
    solver = cfg.SOLVER
    solver.BASE_LR, solver.BASE_LR_END = solver.BASE_LR * factor, solver.BASE_LR_END * factor
    solver.STEPS = tuple(shorter(step) for step in solver.STEPS)
    for key in ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
        solver[key] = shorter(solver[key])
    cfg.TEST.EVAL_PERIOD = shorter(cfg.TEST.EVAL_PERIOD)
    solver.REFERENCE_BATCH = solver.IMS_PER_BATCH
    cfg.freeze()
    logging.getLogger(__name__).info(
        "Schedule scaled from batches of %d to %d: learning rate %g, %d iterations",
        *(reference, solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER),
    )
    return cfg


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser over all parameters that require gradients.

    Args:
        cfg: ``SOLVER.OPTIMIZER`` is "ADAMW" or "SGD".
        model: the system to train.

    Returns:
        Optimizer: with one parameter group per distinct setting, see :func:`parameter_groups`.

    Raises:
        ValueError: for another name, or a model without trainable parameters.
    """
    groups = parameter_groups(cfg, model)
    if not groups:
        raise ValueError("build_optimizer: expected trainable parameters, got a fully frozen model")
    name = cfg.SOLVER.OPTIMIZER.upper()
    if name == "ADAMW":
        return torch.optim.AdamW(
            groups,
            lr=cfg.SOLVER.BASE_LR,
            betas=tuple(cfg.SOLVER.ADAMW_BETAS),
            eps=cfg.SOLVER.ADAMW_EPS,
            fused=True,
        )
    if name == "SGD":
        return torch.optim.SGD(
            groups,
            lr=cfg.SOLVER.BASE_LR,
            momentum=cfg.SOLVER.MOMENTUM,
            nesterov=cfg.SOLVER.NESTEROV,
        )
    raise ValueError(f"build_optimizer: expected SOLVER.OPTIMIZER 'ADAMW' or 'SGD', got {name!r}")


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict]:
    """Sort the trainable parameters by learning rate and weight decay.

    Parameters of a module named ``backbone`` learn at ``SOLVER.BACKBONE_MULTIPLIER`` times the base
    rate; normalisation layers decay by ``SOLVER.WEIGHT_DECAY_NORM``, embedding tables by
    ``SOLVER.WEIGHT_DECAY_EMBED``, Swin's position tables not at all, the rest by
    ``SOLVER.WEIGHT_DECAY``.

    Args:
        cfg: configuration.
        model: the system to train.

    Returns:
        list[dict]: groups with "params", "lr" and "weight_decay", in the order of their first
        parameter.
    """
    solver = cfg.SOLVER
    groups: dict[tuple[float, float], dict] = {}
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            in_backbone = "backbone" in module_name.split(".")
            lr = solver.BASE_LR * (solver.BACKBONE_MULTIPLIER if in_backbone else 1.0)
            if name in _POSITION_TABLES:
                decay = 0.0
            elif isinstance(module, _NORMS):
                decay = solver.WEIGHT_DECAY_NORM
            elif isinstance(module, nn.Embedding):
                decay = solver.WEIGHT_DECAY_EMBED
            else:
                decay = solver.WEIGHT_DECAY
            group = groups.setdefault((lr, decay), {"params": [], "lr": lr, "weight_decay": decay})
            group["params"].append(parameter)
    return list(groups.values())


def build_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LambdaLR:
    """Build the schedule; the rate at an iteration depends on nothing but its number."""
    return LambdaLR(optimizer, lr_multiplier(cfg))


def lr_multiplier(cfg: CfgNode) -> Callable[[int], float]:
    """Return the factor on the base learning rate as a function of the iteration.

    ``SOLVER.LR_SCHEDULER_NAME`` "WarmupMultiStepLR" multiplies by ``GAMMA`` at each of ``STEPS``;
    "WarmupCosineLR" falls along half a cosine to ``BASE_LR_END`` at ``MAX_ITER``; "WarmupLinearLR"
    falls linearly from 1 at the end of the warm-up to 0 at ``MAX_ITER`` (BERT). During the first
    ``WARMUP_ITERS`` the factor goes linearly from ``WARMUP_FACTOR`` to the schedule's value at the
    end of the warm-up, or stays at ``WARMUP_FACTOR`` with ``WARMUP_METHOD`` "constant".

    Args:
        cfg: configuration.

    Returns:
        Callable: iteration to factor.

    Raises:
        ValueError: for an unknown schedule or warm-up, or one along a cosine without iterations.
    """
    solver = cfg.SOLVER
    warmup, max_iter = int(solver.WARMUP_ITERS), int(solver.MAX_ITER)
    start, constant = float(solver.WARMUP_FACTOR), solver.WARMUP_METHOD == "constant"
    if solver.WARMUP_METHOD not in ("constant", "linear"):
        raise ValueError(
            "lr_multiplier: expected WARMUP_METHOD 'linear' or 'constant', "
            f"got {solver.WARMUP_METHOD!r}"
        )
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps, gamma = sorted(solver.STEPS), float(solver.GAMMA)

        def schedule(iteration: int) -> float:
            return gamma ** bisect_right(steps, iteration)

    elif solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        if max_iter < 1:
            raise ValueError(
                "lr_multiplier: expected SOLVER.MAX_ITER of at least 1 with WarmupCosineLR, got "
                f"{max_iter}; LR_SCHEDULER_NAME WarmupMultiStepLR takes 0"
            )
        end = float(solver.BASE_LR_END) / float(solver.BASE_LR)

        def schedule(iteration: int) -> float:
            progress = min(1.0, iteration / max_iter)
            return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * progress))

    elif solver.LR_SCHEDULER_NAME == "WarmupLinearLR":

        def schedule(iteration: int) -> float:
            return max(0.0, (max_iter - iteration) / max(1, max_iter - warmup))

    else:
        raise ValueError(
            "lr_multiplier: expected LR_SCHEDULER_NAME 'WarmupMultiStepLR', 'WarmupCosineLR' or "
            f"'WarmupLinearLR', got {solver.LR_SCHEDULER_NAME!r}"
        )

    def multiplier(iteration: int) -> float:
        if iteration >= warmup:
            return schedule(iteration)
        if constant:
            return start
        return start + (schedule(warmup) - start) * iteration / warmup

    return multiplier


def clip_gradients(cfg: CfgNode, parameters: Iterable[nn.Parameter]) -> torch.Tensor:
    """Clip the gradients in place as ``SOLVER.CLIP_GRADIENTS`` says.

    Args:
        cfg: ``CLIP_TYPE`` "full_model" limits the norm of all gradients together, "norm" that of
            each parameter, "value" each element.
        parameters: those of the optimiser.

    Returns:
        Tensor[]: the norm of all gradients together before clipping, also if nothing is clipped.

    Raises:
        ValueError: for another ``CLIP_TYPE``.
    """
    node = cfg.SOLVER.CLIP_GRADIENTS
    trained = [(p, p.grad) for p in parameters if p.grad is not None]
    with_gradient, gradients = [p for p, _ in trained], [grad for _, grad in trained]
    norm = nn.utils.get_total_norm(gradients, norm_type=node.NORM_TYPE)
    if not node.ENABLED:
        return norm
    if node.CLIP_TYPE == "full_model":
        nn.utils.clip_grads_with_norm_(with_gradient, node.CLIP_VALUE, norm)
    elif node.CLIP_TYPE == "norm":
        for parameter in with_gradient:
            nn.utils.clip_grad_norm_(parameter, node.CLIP_VALUE, norm_type=node.NORM_TYPE)
    elif node.CLIP_TYPE == "value":
        nn.utils.clip_grad_value_(with_gradient, node.CLIP_VALUE)
    else:
        raise ValueError(
            "clip_gradients: expected CLIP_TYPE 'full_model', 'norm' or 'value', "
            f"got {node.CLIP_TYPE!r}"
        )
    return norm
