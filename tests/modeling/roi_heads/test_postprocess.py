"""Masks of the image from masks inside boxes."""

import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances

from amodal2.modeling.roi_heads.mask_kinds import KINDS, PRED_FIELDS
from amodal2.modeling.roi_heads.postprocess import amodal_postprocess


def predicted(*kinds, count=3):
    corner = torch.rand(count, 2) * 20
    found = Instances((40, 60), pred_boxes=Boxes(torch.cat((corner, corner + 15), dim=1)))
    found.scores = torch.rand(count)
    for kind in kinds:
        found.set(PRED_FIELDS[kind], torch.rand(count, 1, 28, 28))
    if "amodal" in kinds:
        found.pred_masks = found.pred_amodal_masks
    return found


def test_postprocess_pastes_as_detectron2_does():
    found = predicted("amodal", "visible")
    stock = Instances((40, 60), **found.get_fields())
    stock.pred_boxes = found.pred_boxes.clone()
    expected = detector_postprocess(stock, 80, 100)
    result = amodal_postprocess(found, 80, 100)
    assert torch.equal(result.pred_masks, expected.pred_masks)
    assert result.pred_masks is result.pred_amodal_masks
    assert torch.equal(result.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert result.image_size == (80, 100)


def test_postprocess_makes_up_no_masks():
    result = amodal_postprocess(predicted("visible"), 40, 60, invisible="derived")
    assert result.has("pred_visible_masks")
    assert not any(result.has(PRED_FIELDS[k]) for k in ("amodal", "occluder", "invisible"))
    assert not result.has("pred_masks")


def test_postprocess_leaves_out_kinds_that_nobody_wants():
    result = amodal_postprocess(predicted(*KINDS), 40, 60, ("occluder",))
    assert set(result.get_fields()) == {"pred_boxes", "scores", "pred_occluder_masks"}


@pytest.mark.parametrize("count", [0, 3])
def test_postprocess_gives_boolean_masks_of_every_kind(count):
    result = amodal_postprocess(predicted(*KINDS, count=count), 40, 60)
    for kind in KINDS:
        masks = result.get(PRED_FIELDS[kind])
        assert masks.dtype == torch.bool
        assert masks.shape == (count, 40, 60)


def test_postprocess_drops_boxes_outside_the_image():
    found = predicted(*KINDS)
    found.pred_boxes.tensor[1] = torch.tensor([70.0, 5.0, 90.0, 25.0])
    scores = found.scores[[0, 2]]
    result = amodal_postprocess(found, 40, 60)
    assert torch.equal(result.scores, scores)
    assert len(result.pred_occluder_masks) == 2


def test_postprocess_subset_and_difference():
    found = predicted("amodal", "visible", "invisible")
    plain = amodal_postprocess(predicted_copy(found), 40, 60)
    result = amodal_postprocess(
        predicted_copy(found), 40, 60, enforce_subset=True, invisible="derived"
    )
    assert (plain.pred_visible_masks & ~plain.pred_amodal_masks).any()
    assert torch.equal(result.pred_amodal_masks, plain.pred_amodal_masks | plain.pred_visible_masks)
    assert torch.equal(
        result.pred_invisible_masks, result.pred_amodal_masks & ~plain.pred_visible_masks
    )
    only = amodal_postprocess(found, 40, 60, ("invisible",), invisible="derived")
    assert set(only.get_fields()) == {"pred_boxes", "scores", "pred_invisible_masks"}


def predicted_copy(found):
    """Copy the boxes, which post-processing scales in place."""
    copy = Instances(found.image_size, **found.get_fields())
    copy.pred_boxes = found.pred_boxes.clone()
    return copy
