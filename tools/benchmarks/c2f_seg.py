"""Cases of C2F-Seg: objects at once against the official call pattern."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from detectron2.modeling import build_model
from torch import Tensor

import amodal2.modeling  # noqa: F401 registers the systems
from amodal2.config import get_cfg
from amodal2.modeling.c2f_seg.decoding import GreedyChoice
from tools.benchmarks.c2f_seg_peer import complete_official
from tools.benchmarks.registry import Case, Peer

BATCHES = (1, 16, 64)
# Width of the official models, at 256 x 256; and a narrow one for a CPU, at 128 x 128.
SMALL = (
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 16, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 8, "MODEL.C2F_SEG.HIDDEN_DIM", 96),
    *("MODEL.C2F_SEG.NUM_HEADS", 4, "MODEL.C2F_SEG.NUM_LAYERS", 4),
    *("MODEL.C2F_SEG.REFINE_DIMS", (64, 48, 32, 24, 16), "MODEL.C2F_SEG.VQ.CHANNELS", 32),
    *("MODEL.C2F_SEG.VQ.CHANNEL_MULT", (1, 1, 1, 1, 2), "MODEL.C2F_SEG.VQ.NUM_RES_BLOCKS", 1),
    *("MODEL.C2F_SEG.VQ.LATENT_DIM", 64, "MODEL.C2F_SEG.VQ.CODE_DIM", 32),
    *("INPUT.AMODAL.PATCH_SIZE", 128),
)
WIDTHS: dict[str, tuple[Any, ...]] = {"full": (), "small": SMALL}
CONTRAST = 50.0  # of the random logits, so that rounding changes no choice


@dataclass
class Objects:
    """A model and what it completes."""

    model: Any
    images: Tensor
    visible: Tensor


def make(options: tuple[Any, ...], count: int, device: torch.device, dtype: torch.dtype) -> Objects:
    """Build a model with random weights and draw patches with a disc as the visible mask."""
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.META_ARCHITECTURE", "C2FSeg", "MODEL.DEVICE", str(device)),
            *("MODEL.BACKBONE.NAME", "build_c2f_resnet_backbone"),
            *("MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.STRIDE_IN_1X1", False),
            *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("INPUT.FORMAT", "RGB", "MODEL.C2F_SEG.DETERMINISTIC", True),
            *options,
        ]
    )
    torch.manual_seed(0)
    model = build_model(cfg).eval().to(dtype)
    with torch.no_grad():
        model.model.m_dec.weight *= CONTRAST
    side = model.patch_size
    images = torch.rand(count, 3, side, side)
    axis = torch.arange(side) - side / 2
    radii = torch.linspace(0.1, 0.4, count)[:, None, None] * side
    visible = (axis[:, None].square() + axis.square()).sqrt() < radii
    return Objects(model, images.to(device, dtype), visible.to(device))


@torch.inference_mode()
def ours(objects: Objects) -> Tensor:
    """Complete all objects at once."""
    return objects.model.complete(objects.images, objects.visible).cpu()


@torch.inference_mode()
def official(objects: Objects) -> Tensor:
    """Complete one object after the other."""
    return complete_official(objects.model, objects.images, objects.visible, GreedyChoice())


def completer_cases() -> list[Case]:
    """Return the cases; at full width only one object is for the CPU too."""
    return [
        Case(
            op="c2f_seg",
            name=f"{width}_b{count}",
            make=partial(make, options, count),
            ours=ours,
            peers=[Peer("one object at a time", official)],
            tolerance=1e-3,
            dtypes=(torch.float32,),
            devices=("cuda",) if width == "full" and count > 1 else ("cpu", "cuda"),
        )
        for width, options in WIDTHS.items()
        for count in BATCHES
    ]
