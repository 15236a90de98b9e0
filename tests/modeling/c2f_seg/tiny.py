"""A tiny C2F-Seg and toy data for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

import amodal2.modeling  # noqa: F401 registers the systems
from amodal2.config import get_cfg
from amodal2.structures import encode_mask

SIDE = 64
SIZE = (40, 60)


def config(system: str, *options: Any) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.META_ARCHITECTURE", system),
            *("MODEL.DEVICE", "cpu"),
            *("MODEL.WEIGHTS", ""),
            *("MODEL.BACKBONE.NAME", "build_c2f_resnet_backbone"),
            *("MODEL.BACKBONE.FREEZE_AT", 0),
            *("MODEL.RESNETS.NORM", "BN"),
            *("MODEL.RESNETS.STRIDE_IN_1X1", False),
            *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8),
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 8),
            *("MODEL.RESNETS.WIDTH_PER_GROUP", 4),
            *("MODEL.C2F_SEG.VQ.CHANNELS", 32),
            *("MODEL.C2F_SEG.VQ.CHANNEL_MULT", (1, 1, 1, 1, 1)),
            *("MODEL.C2F_SEG.VQ.NUM_RES_BLOCKS", 1),
            *("MODEL.C2F_SEG.VQ.LATENT_DIM", 16),
            *("MODEL.C2F_SEG.VQ.CODE_DIM", 8),
            *("MODEL.C2F_SEG.VQ.CODES", 16),
            *("MODEL.C2F_SEG.HIDDEN_DIM", 32),
            *("MODEL.C2F_SEG.NUM_HEADS", 2),
            *("MODEL.C2F_SEG.NUM_LAYERS", 2),
            *("MODEL.C2F_SEG.REFINE_DIMS", (8, 8, 8, 8, 8)),
            *("MODEL.C2F_SEG.DETERMINISTIC", True),
            *("DATASETS.TEST", ()),
            *("DATALOADER.NUM_WORKERS", 0),
            *("INPUT.FORMAT", "RGB"),
            *("INPUT.AMODAL.MAPPER", "ObjectPatchMapper"),
            *("INPUT.AMODAL.PATCH_SIZE", SIDE),
            *("INPUT.AMODAL.PATCH_NOISE", "cocoa"),
            *("SOLVER.IMS_PER_BATCH", 2),
            *("SOLVER.MAX_ITER", 2),
            *("SOLVER.BASE_LR", 0.001),
            *("SOLVER.WARMUP_ITERS", 0),
            *("SOLVER.STEPS", ()),
            *("SEED", 5),
            *options,
        ]
    )
    return cfg


def build(system: str, *options: Any) -> nn.Module:
    return build_model(config(system, *options))


def discs(count: int, side: int = SIDE, seed: int = 0) -> Tensor:
    """Return random discs, bool [count, side, side]."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, side, side), np.uint8)
    for mask in masks:
        centre = rng.integers(side // 4, 3 * side // 4, 2).tolist()
        cv2.circle(mask, centre, int(rng.integers(side // 6, side // 3)), 1, -1)
    return torch.from_numpy(masks.astype(bool))


def images(root: Path) -> list[dict[str, Any]]:
    """Write two images with two overlapping squares each and return their dataset dicts."""
    found = []
    for number in (1, 2):
        near, far = np.zeros((2, *SIZE), bool)
        near[10:30, 20:40] = True
        far[4:24, 6 : 26 + number] = True
        picture = np.zeros((*SIZE, 3), np.uint8)
        picture[far], picture[near] = (200, 0, 0), (0, 0, 200)
        path = root / f"{number}.png"
        cv2.imwrite(str(path), picture[..., ::-1])
        objects = [
            {
                "id": 10 * number + k,
                "category_id": k,
                "iscrowd": 0,
                "amodal_segm": encode_mask(amodal),
                "visible_segm": encode_mask(visible),
                "amodal_bbox": _box(amodal),
                "visible_bbox": _box(visible),
            }
            for k, (amodal, visible) in enumerate([(near, near), (far, far & ~near)])
        ]
        image = {"image_id": number, "file_name": str(path), "height": SIZE[0], "width": SIZE[1]}
        found.append({**image, "annotations": objects})
    return found


def _box(mask: np.ndarray) -> list[int]:
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
