"""A tiny A2VIS and samples for it, shared by the tests of models."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances

from amodal2.config import get_cfg

TINY_KEYS: list[Any] = [
    "MODEL.DEVICE",
    "cpu",
    "MODEL.TIMM.NAME",
    "resnet10t",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
    3,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM",
    32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM",
    32,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS",
    1,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_DIM_FEEDFORWARD",
    32,
    "MODEL.MASK_FORMER.HIDDEN_DIM",
    32,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES",
    6,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD",
    32,
    "MODEL.MASK_FORMER.DEC_LAYERS",
    3,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS",
    64,
    "MODEL.VITA.HIDDEN_DIM",
    32,
    "MODEL.VITA.NUM_OBJECT_QUERIES",
    5,
    "MODEL.VITA.DIM_FEEDFORWARD",
    32,
    "MODEL.VITA.ENC_LAYERS",
    1,
    "MODEL.VITA.DEC_LAYERS",
    2,
]


def tiny_config(*changes: Any) -> CfgNode:
    """A2VIS with a slim backbone, batch normalisation fixed, and the given key-value pairs."""
    cfg = get_cfg()
    keys = [
        "MODEL.META_ARCHITECTURE",
        "A2VIS",
        "MODEL.BACKBONE.NAME",
        "build_timm_backbone",
        "MODEL.TIMM.FREEZE_BN",
        True,
        "MODEL.SEM_SEG_HEAD.AMP",
        True,
        "INPUT.FORMAT",
        "RGB",
        "INPUT.AMODAL.CLIP_LEN",
        2,
        "INPUT.AMODAL.NUM_CLIPS",
        2,
    ]
    cfg.merge_from_list([*TINY_KEYS, *keys, *changes])
    return cfg


def make_sample(seed: int, frames: int = 4, size: tuple[int, int] = (64, 96)) -> dict[str, Any]:
    """Two moving boxes; the second slides behind the first and is hidden in the third frame."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    images = torch.randint(0, 60, (frames, 3, height, width), generator=generator)
    instances = []
    for t in range(frames):
        front = torch.zeros(height, width, dtype=torch.bool)
        front[8:40, 30:62] = True
        back = torch.zeros_like(front)
        left = min(8 + 14 * t, 36)
        back[12:36, left : left + 24] = True
        amodal = torch.stack([front, back])
        visible = torch.stack([front, back & ~front])
        images[t, 0][front] += 150
        images[t, 2][visible[1]] += 150
        one = Instances(size)
        one.gt_classes = torch.tensor([0, 2])
        one.gt_ids = torch.tensor([1, 2])
        one.gt_visible_masks = visible
        one.gt_amodal_masks = amodal
        instances.append(one)
    return {
        "frames": images.to(torch.uint8),
        "instances": instances,
        "height": height,
        "width": width,
        "video_id": seed,
        "sample_seed": seed,
    }


class ArrayFrames:
    """Frames in memory with the interface of the test loader's lazy frames."""

    def __init__(self, frames: torch.Tensor) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def clip(self, start: int, stop: int) -> torch.Tensor:
        return self.frames[start:stop]
