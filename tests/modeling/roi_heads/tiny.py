"""A small two-stage detector and samples for it, shared by the tests of ROI heads."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.structures import BitMasks, Boxes, Instances
from torch import nn

import amodal2.modeling  # noqa: F401 registers the detector and its heads
from amodal2.config import get_cfg

SIZE = (64, 96)
CLASSES = 3

TINY_KEYS: list[Any] = [
    "MODEL.DEVICE",
    "cpu",
    "MODEL.META_ARCHITECTURE",
    "GeneralizedRCNNAmodal",
    "MODEL.WEIGHTS",
    "",
    "MODEL.MASK_ON",
    True,
    "MODEL.BACKBONE.NAME",
    "TinyBackbone",
    "MODEL.ANCHOR_GENERATOR.SIZES",
    [[16, 32, 48]],
    "MODEL.RPN.IN_FEATURES",
    ["s4"],
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE",
    64,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN",
    100,
    "MODEL.RPN.PRE_NMS_TOPK_TEST",
    50,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN",
    50,
    "MODEL.RPN.POST_NMS_TOPK_TEST",
    20,
    "MODEL.ROI_HEADS.NAME",
    "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES",
    ["s4"],
    "MODEL.ROI_HEADS.NUM_CLASSES",
    CLASSES,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",
    32,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    0.0,
    "MODEL.ROI_BOX_HEAD.NAME",
    "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC",
    1,
    "MODEL.ROI_BOX_HEAD.FC_DIM",
    32,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
    7,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",
    14,
    "MODEL.ROI_MASK_HEAD.NUM_CONV",
    2,
    "MODEL.ROI_MASK_HEAD.CONV_DIM",
    16,
    "MODEL.AISFORMER.EMB_DIM",
    16,
    "MODEL.AISFORMER.DIM_FEEDFORWARD",
    32,
    "TEST.DETECTIONS_PER_IMAGE",
    8,
]


FPN_KEYS: list[Any] = [
    "MODEL.BACKBONE.NAME",
    "build_resnet_fpn_backbone",
    "MODEL.RESNETS.DEPTH",
    18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS",
    64,
    "MODEL.RESNETS.OUT_FEATURES",
    ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES",
    ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.OUT_CHANNELS",
    16,
    "MODEL.ANCHOR_GENERATOR.SIZES",
    [[8], [16], [32], [64], [128]],
    "MODEL.RPN.IN_FEATURES",
    ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.ROI_HEADS.IN_FEATURES",
    ["p2", "p3", "p4", "p5"],
]
"""The same detector on a feature pyramid."""


class TinyBackbone(Backbone):
    """Four convolutions; one feature map of stride 4, which sees about half of the image."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        widths = (input_shape.channels, 16, 32, 32, 16)
        layers = []
        for k, (before, after) in enumerate(itertools.pairwise(widths)):
            step = {"stride": 2} if k < 2 else {"dilation": 3}
            pad = step.get("dilation", 1)
            layers += [nn.Conv2d(before, after, 3, padding=pad, **step), nn.GroupNorm(4, after)]
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"s4": self.layers(x)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"s4": ShapeSpec(channels=16, stride=4)}


if "TinyBackbone" not in BACKBONE_REGISTRY:
    BACKBONE_REGISTRY.register(TinyBackbone)


def tiny_config(head: str, *changes: Any) -> CfgNode:
    """Return the configuration of a detector with a mask head and the given key-value pairs."""
    cfg = get_cfg()
    cfg.merge_from_list([*TINY_KEYS, "MODEL.ROI_MASK_HEAD.NAME", head, *changes])
    return cfg


def block(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    """Return a mask that is True inside a rectangle."""
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def make_objects(count: int = 2) -> Instances:
    """Return a front object, one partly behind it, or none, with every kind of mask."""
    front, back = block(8, 30, 40, 62), block(12, 10, 36, 44)
    amodal = torch.stack([front, back])[:count]
    visible = torch.stack([front, back & ~front])[:count]
    occluder = torch.stack([torch.zeros_like(front), front & back])[:count]
    objects = Instances(SIZE)
    objects.gt_classes = torch.tensor([0, 2])[:count]
    objects.gt_amodal_masks = amodal
    objects.gt_visible_masks = visible
    objects.gt_occluder_masks = occluder
    objects.gt_masks = BitMasks(amodal)
    boxes = torch.tensor([[30.0, 8.0, 62.0, 40.0], [10.0, 12.0, 44.0, 36.0]])
    objects.gt_boxes = Boxes(boxes[:count])
    return objects


def make_sample(count: int = 2) -> dict[str, Any]:
    """Return a training sample whose objects can be told from the background by colour."""
    objects = make_objects(count)
    image = torch.randint(0, 60, (3, *SIZE), generator=torch.Generator().manual_seed(0))
    for i in range(count):
        image[0 if i == 0 else 2][objects.gt_visible_masks[i]] += 150
    return {
        "image": image.to(torch.uint8),
        "instances": objects,
        "height": SIZE[0],
        "width": SIZE[1],
        "image_id": 1,
    }


def make_regions(count: int = 2, **fields: Any) -> Instances:
    """Return objects as foreground regions with their own boxes, as a mask head gets them."""
    regions = make_objects(count)
    regions.proposal_boxes = regions.gt_boxes.clone()
    for name, value in fields.items():
        regions.set(name, value)
    return regions
