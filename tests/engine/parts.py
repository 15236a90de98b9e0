"""Gradients of the same four samples in one part or several, on one process or several."""

import contextlib
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import Tensor

import amodal2.modeling  # noqa: F401 registers the models
from amodal2.engine import wrap_distributed
from amodal2.engine.accumulation import add_gradients
from tests.modeling.tiny import make_sample, tiny_config

SYSTEMS: dict[str, tuple[Any, ...]] = {
    "a2vis_frame": ("MODEL.A2VIS.TRAIN_LEVEL", "frame", "INPUT.AMODAL.CLIP_LEN", 1),
    "a2vis": ("MODEL.A2VIS.AUX_CLIP_LOSS", True, "MODEL.A2VIS.CLIP_CLASS_WEIGHT", 1.0),
    "a2vis_clip": ("MODEL.A2VIS.MATCH", "clip", "MODEL.A2VIS.FREEZE_DETECTOR", False),
    "vita": ("MODEL.META_ARCHITECTURE", "VITA"),
    "genvis": ("MODEL.META_ARCHITECTURE", "GenVIS", "MODEL.BASELINES.FREEZE_DETECTOR", True),
    "minvis": ("MODEL.META_ARCHITECTURE", "MinVIS"),
    "mask2former_vis": ("MODEL.META_ARCHITECTURE", "Mask2FormerVIS"),
}


def samples() -> list[dict[str, Any]]:
    """Four samples of one size with two, one, no and two objects."""
    found = [make_sample(i) for i in range(4)]
    for i, count in ((1, 1), (2, 0)):
        found[i]["instances"] = [x[:count] for x in found[i]["instances"]]
    return found


def build(system: str) -> torch.nn.Module:
    """Build a tiny system in float64, so that what differs is no rounding."""
    torch.manual_seed(0)
    return build_model(tiny_config(*SYSTEMS[system])).double().train()


def gradients(model: torch.nn.Module, batch: list, parts: int) -> tuple[dict, dict]:
    """Return losses and gradients of a batch."""
    losses = add_gradients(
        model, batch, parts, seed=lambda: torch.manual_seed(1), autocast=contextlib.nullcontext
    )
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return losses, found


def process(system: str, out: str) -> None:
    """Let one process of two compute its half of the samples in two parts."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    Tensor.float = Tensor.double
    rank = comm.get_rank()
    _, found = gradients(wrap_distributed(build(system)), samples()[2 * rank : 2 * rank + 2], 2)
    torch.save(found, Path(out) / f"{rank}.pth")
