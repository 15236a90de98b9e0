"""A tiny video dataset and a tiny system for tests of the training loop.

Run as a program it trains slowly: ``python toy.py FOLDER [KEY VALUE ...]``.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from PIL import Image
from torch import nn

from amodal2.config import get_cfg
from amodal2.engine import AmodalTrainer
from amodal2.structures import encode_mask, fields
from amodal2.utils.files import atomic_write

SIZE = (24, 32)
LENGTH = 8


def make_videos(root: Path, num_videos: int = 4) -> list[dict]:
    """Write frames of moving squares below ``root`` and return their dataset dicts.

    Frames that exist are left alone, since another process may be reading them.
    """
    rng = np.random.default_rng(3)
    videos = []
    for video_id in range(1, num_videos + 1):
        folder = root / f"v{video_id}"
        folder.mkdir(parents=True, exist_ok=True)
        starts = rng.integers(0, 12, size=(2, 2))
        files, visible, amodal = [], ([], []), ([], [])
        for t in range(LENGTH):
            frame = rng.integers(0, 60, size=(*SIZE, 3), dtype=np.uint8)
            masks = []
            for k in range(2):
                mask = np.zeros(SIZE, dtype=bool)
                y, x = int(starts[k][0]), int(starts[k][1]) + 2 * t
                mask[y : y + 9, x : x + 9] = True
                masks.append(mask)
            for k, mask in enumerate(masks):
                seen = mask & ~masks[1] if k == 0 else mask
                frame[seen] = (220, 40, 40) if k == 0 else (40, 40, 220)
                visible[k].append(encode_mask(seen) if seen.any() else None)
                amodal[k].append(encode_mask(mask) if mask.any() else None)
            files.append(str(folder / f"{t:03d}.png"))
            if not Path(files[-1]).exists():
                with atomic_write(files[-1]) as temporary:
                    Image.fromarray(frame).save(temporary)
        videos.append(
            {
                "video_id": video_id,
                "height": SIZE[0],
                "width": SIZE[1],
                "length": LENGTH,
                "file_names": files,
                "annotations": [
                    {
                        "id": k + 1,
                        "category_id": k,
                        "iscrowd": 0,
                        "segmentations": visible[k],
                        "amodal_segmentations": amodal[k],
                    }
                    for k in range(2)
                ],
            }
        )
    return videos


class ToyBlock(nn.Module):
    """Convolution, group norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))


class ToySystem(nn.Module):
    """Predicts the union of the visible and of the amodal masks of a sample."""

    def __init__(self, cfg) -> None:
        super().__init__()
        self.backbone = ToyBlock()
        self.table = nn.Embedding(1, 8)
        self.drop = nn.Dropout(cfg.MODEL.MASK_FORMER.DROPOUT)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        losses = {"loss_visible": 0.0, "loss_amodal": 0.0}
        for sample in batch:
            x = self.backbone(sample["frames"].float() / 255)
            logits = self.head(self.drop(x + self.table.weight.view(1, 8, 1, 1)))
            for i, (key, name) in enumerate(
                ((fields.GT_VISIBLE_MASKS, "loss_visible"), (fields.GT_AMODAL_MASKS, "loss_amodal"))
            ):
                target = torch.stack([k.get(key).any(0) for k in sample["instances"]]).float()
                loss = nn.functional.binary_cross_entropy_with_logits(logits[:, i], target)
                losses[name] = losses[name] + loss / len(batch)
        return losses


if "ToySystem" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(ToySystem)


def toy_config(root: Path, output: Path, *opts):
    """Register the toy dataset below ``root`` and return a config that trains on it on the CPU."""
    if "toy_v1_amodal_train" in DatasetCatalog.list():
        DatasetCatalog.remove("toy_v1_amodal_train")
    DatasetCatalog.register("toy_v1_amodal_train", lambda: make_videos(root))
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.META_ARCHITECTURE", "ToySystem"),
            *("MODEL.DEVICE", "cpu"),
            *("MODEL.WEIGHTS", ""),
            *("MODEL.MASK_FORMER.DROPOUT", 0.3),
            *("DATASETS.TRAIN", ("toy_v1_amodal_train",)),
            *("DATASETS.TEST", ()),
            *("DATALOADER.NUM_WORKERS", 0),
            *("INPUT.MIN_SIZE_TRAIN", (0,)),
            *("INPUT.AMODAL.NUM_CLIPS", 1),
            *("INPUT.AMODAL.COLOR_JITTER", 0.2),
            *("SOLVER.IMS_PER_BATCH", 4),
            *("SOLVER.MAX_ITER", 12),
            *("SOLVER.BASE_LR", 0.01),
            *("SOLVER.WARMUP_ITERS", 3),
            *("SOLVER.STEPS", ()),
            *("SOLVER.CHECKPOINT_PERIOD", 2),
            *("SEED", 7),
            *("OUTPUT_DIR", str(output)),
            *opts,
        ]
    )
    return cfg


@contextmanager
def restored_loggers() -> Iterator[None]:
    """Undo what ``start_run`` does to the loggers."""
    loggers = [logging.getLogger(name) for name in ("amodal2", "detectron2", "fvcore")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    try:
        yield
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate


class Slow(HookBase):
    """Makes every iteration take at least 20 ms, so that a run can be interrupted."""

    def before_step(self) -> None:
        time.sleep(0.02)


def gradient_process(root: str, out: str) -> None:
    """One process of two: writes gradients, gathered values and the error of a bad loss."""
    torch.set_num_threads(1)
    rank = comm.get_rank()
    cfg = toy_config(Path(root), Path(out), "MODEL.MASK_FORMER.DROPOUT", 0.0, "SOLVER.MAX_ITER", 3)
    trainer = AmodalTrainer(cfg)
    trainer.train()
    gradients = {name: p.grad for name, p in trainer.model.module.named_parameters()}
    trainer = AmodalTrainer(cfg)
    model = trainer.model

    def broken(batch):
        losses = model(batch)
        return {**losses, "loss_amodal": losses["loss_amodal"] * (float("nan") if rank else 1.0)}

    trainer.model = broken
    broken.train = model.train
    try:
        trainer.train()
        error = ""
    except FloatingPointError as e:
        error = str(e)
    gathered = comm.all_gather({"rank": rank, "local": comm.get_local_rank()})
    torch.save(
        {"gradients": gradients, "error": error, "gathered": gathered},
        Path(out) / f"rank{rank}.pth",
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    run = AmodalTrainer(toy_config(folder / "data", folder / "run", *sys.argv[2:]))
    run.resume_or_load(resume=True)
    run.register_hooks([Slow()])
    run.train()
