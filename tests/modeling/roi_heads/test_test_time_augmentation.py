"""Means over resized and mirrored images."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.data.transforms import HFlipTransform, NoOpTransform
from detectron2.modeling import build_model
from detectron2.structures import Instances

from amodal2.modeling.roi_heads.mask_kinds import PRED_FIELDS
from amodal2.modeling.roi_heads.test_time_augmentation import (
    GeneralizedRCNNAmodalWithTTA,
    average_masks,
)
from tests.modeling.roi_heads.test_heads import HEADS
from tests.modeling.roi_heads.tiny import make_sample, tiny_config

AUG_KEYS = ["TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (64, 80), "TEST.AUG.MAX_SIZE", 200]


def test_average_masks_turns_mirrored_ones_back():
    plain, mirrored = torch.rand(2, 3, 1, 4, 4)
    outputs = [
        Instances((8, 8), pred_visible_masks=plain, pred_amodal_masks=plain),
        Instances((8, 8), pred_visible_masks=mirrored, pred_amodal_masks=plain.flip(3)),
    ]
    versions = [
        SimpleNamespace(transforms=[NoOpTransform()]),
        SimpleNamespace(transforms=[HFlipTransform(8)]),
    ]
    merged = Instances((8, 8))
    average_masks(merged, outputs, versions)
    assert torch.allclose(merged.pred_visible_masks, (plain + mirrored.flip(3)) / 2)
    assert torch.allclose(merged.pred_amodal_masks, plain)
    assert merged.pred_masks is merged.pred_amodal_masks
    assert not merged.has("pred_occluder_masks")


@pytest.mark.parametrize("name", HEADS)
def test_tta_gives_every_kind(name):
    kinds = ("amodal", "visible", "occluder", "invisible")
    cfg = tiny_config(name, *AUG_KEYS, "MODEL.AMODAL_RCNN.OUTPUT_KINDS", kinds)
    model = GeneralizedRCNNAmodalWithTTA(cfg, build_model(cfg).eval())
    with torch.no_grad():
        (output,) = model([make_sample()])
    found = output["instances"]
    assert len(found) > 0
    assert {k for k in kinds if found.has(PRED_FIELDS[k])} == HEADS[name]
    for kind in HEADS[name]:
        masks = found.get(PRED_FIELDS[kind])
        assert masks.dtype == torch.bool
        assert masks.shape == (len(found), 64, 96)


def test_tta_without_masks_gives_boxes():
    cfg = tiny_config("MaskJointHead", *AUG_KEYS, "MODEL.MASK_ON", False)
    with torch.no_grad():
        (output,) = GeneralizedRCNNAmodalWithTTA(cfg, build_model(cfg).eval())([make_sample()])
    assert not output["instances"].has("pred_masks")
