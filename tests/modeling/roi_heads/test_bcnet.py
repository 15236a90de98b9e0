"""BCNet's graph layer, boundaries and settings."""

import math

import cv2
import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.utils.events import EventStorage

from amodal2.modeling.roi_heads.bcnet import mask_boundaries
from tests.modeling.roi_heads.tiny import make_regions, tiny_config


def build(*changes, channels=16):
    cfg = tiny_config("BCNet", "MODEL.ROI_MASK_HEAD.NUM_CONV", 4, *changes)
    return ROI_MASK_HEAD_REGISTRY.get("BCNet")(cfg, ShapeSpec(channels=channels))


def test_mask_boundaries_are_dilation_minus_erosion():
    masks = (torch.rand(4, 28, 28) > 0.3).float()
    masks[0] = 0
    masks[1] = 1
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    expected = [cv2.dilate(m, cross) != cv2.erode(m, cross) for m in masks.byte().numpy()]
    assert np.array_equal(mask_boundaries(masks).numpy(), np.stack(expected))
    assert not mask_boundaries(masks)[:2].any()


def test_bcnet_graph_is_attention_over_all_cells():
    head = build().eval()
    x = torch.randn(1, 16, 4, 4)
    query, key, value = (
        torch.einsum("oc,cp->op", getattr(head, f"{part}_transform_bound").weight[:, :, 0, 0],
                     x[0].flatten(1))
        for part in ("query", "key", "value")
    )  # fmt: skip
    weights = (query.t() @ key / math.sqrt(16)).softmax(dim=1)
    read = head.output_transform_bound.weight[:, :, 0, 0] @ (weights @ value.t()).t()
    expected = read.view(1, 16, 4, 4) / math.sqrt(1 + 1e-4)
    with torch.no_grad():
        assert torch.allclose(head._graph(x, ""), expected, atol=1e-5)


def test_bcnet_has_the_official_names():
    names = {name.rpartition(".")[0] for name in build().state_dict()}
    graph = {f"{p}_transform_bound{b}" for p in ("query", "key", "value", "output")
             for b in ("", "_bo")}  # fmt: skip
    convs = {f"{tower}_fcn{k}" for tower in ("boundary", "mask") for k in range(1, 5)}
    ends = {"deconv", "bo_deconv", "boundary_deconv", "boundary_deconv_bo", "predictor",
            "predictor_bo", "boundary_predictor", "boundary_predictor_bo"}  # fmt: skip
    assert names == graph | convs | ends | {"blocker_bound", "blocker_bound_bo"}


def test_bcnet_object_reads_the_occluder_and_not_the_other_way_round():
    head = build().eval()
    with torch.no_grad():
        x = torch.randn(1, 16, 14, 14)
        before = head.layers(x)
        head.mask_fcn1.weight.mul_(2)
        changed = head.layers(x)
        assert torch.equal(before["occluder"], changed["occluder"])
        assert not torch.equal(before["amodal"], changed["amodal"])
        head.boundary_fcn1.weight.mul_(2)
        assert not torch.equal(head.layers(x)["amodal"], changed["amodal"])


def test_bcnet_boundary_loss_of_the_occluder_is_of_its_own_logits():
    head = build()
    with EventStorage():
        losses = head(torch.randn(2, 16, 14, 14), [make_regions()])
    losses["loss_occluder_boundary"].backward()
    assert head.boundary_predictor_bo.weight.grad.abs().sum() > 0
    assert head.boundary_predictor.weight.grad is None


def test_bcnet_official_batch_repeats_the_first_regions():
    official = build("MODEL.ROI_MASK_HEAD.OCCLUDER_BATCH", "official")
    features = torch.randn(2, 16, 14, 14)
    with EventStorage():
        both = official(features, [make_regions()])  # one of two regions has an occluder
        none = official(features[:1], [make_regions(1)])
    assert both["loss_occluder_mask"] > 0
    assert (none["loss_occluder_mask"], none["loss_occluder_boundary"]) == (0, 0)


def test_bcnet_learns_visible_masks_on_request():
    head = build("MODEL.BCNET.TARGET", "visible", "MODEL.ROI_MASK_HEAD.LOSS_WEIGHTS.VISIBLE", 2.0)
    assert head.loss_weights == {"visible": 2.0, "occluder": 0.25}
    with EventStorage():
        losses = head(torch.randn(2, 16, 14, 14), [make_regions()])
    assert set(losses) == {"loss_visible_mask", "loss_occluder_mask", "loss_visible_boundary",
                           "loss_occluder_boundary"}  # fmt: skip


def test_bcnet_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="CONV_DIM 32, the channels of the pooled features, got 1"):
        build(channels=32)
    with pytest.raises(ValueError, match=r"MODEL.BCNET.TARGET of .* got 'occluder'"):
        build("MODEL.BCNET.TARGET", "occluder")
