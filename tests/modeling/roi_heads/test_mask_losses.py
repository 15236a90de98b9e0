"""Losses of mask logits by hand."""

import math

import torch
from detectron2.utils.events import EventStorage

from amodal2.modeling.roi_heads.mask_losses import (
    log_mask_accuracy,
    mask_loss,
    occluder_regions,
    select_class,
)


def test_select_class_takes_the_own_channel():
    logits = torch.arange(6.0).view(2, 3, 1, 1)
    assert select_class(logits, torch.tensor([2, 0])).flatten().tolist() == [2.0, 3.0]
    assert select_class(logits[:, 1:2], torch.tensor([2, 0])).flatten().tolist() == [1.0, 4.0]


def test_mask_loss_averages_over_what_is_known():
    logits = torch.tensor([0.0, 100.0])[:, None, None]
    target = torch.tensor([1.0, 0.0])[:, None, None]
    assert math.isclose(mask_loss(logits, target), (math.log(2) + 100) / 2, rel_tol=1e-6)
    known = torch.tensor([True, False])
    assert math.isclose(mask_loss(logits, target, known), math.log(2), rel_tol=1e-6)


def test_mask_loss_without_regions_is_zero_with_a_gradient():
    logits = torch.zeros(2, 3, 3, requires_grad=True)
    loss = mask_loss(logits, torch.zeros(2, 3, 3), torch.tensor([False, False]))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_occluder_regions_follow_the_official_batch():
    target = torch.zeros(4, 2, 2)
    target[2:, 0, 0] = 1
    assert occluder_regions(target).tolist() == [2, 3, 0, 1]
    assert occluder_regions(torch.zeros(4, 2, 2)).tolist() == []


def test_log_mask_accuracy_stores_shares():
    logits = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]], [[9.0, 9.0], [9.0, 9.0]]])
    target = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    with EventStorage() as storage:
        log_mask_accuracy("visible", logits, target, torch.tensor([True, False]))
        stored = {name: value for name, (value, _) in storage.latest().items()}
        log_mask_accuracy("amodal", logits, target, torch.tensor([False, False]))
        assert len(storage.latest()) == len(stored)
    assert stored["mask_head/visible_accuracy"] == 0.25
    assert stored["mask_head/visible_false_positive"] == 1.0
    assert math.isclose(stored["mask_head/visible_false_negative"], 2 / 3, rel_tol=1e-6)
