"""References to masks behave as copies of them."""

import pytest
import torch
from detectron2.structures import BitMasks, Instances

from amodal2.structures.shared_masks import SharedMasks


@pytest.fixture
def masks():
    return torch.rand(4, 20, 30) > 0.5


def test_shared_masks_crop_as_detectron2_does(masks):
    index = torch.tensor([2, 0, 2, 3, 2])
    corner = torch.rand(5, 2) * 10
    boxes = torch.cat((corner, corner + 1 + torch.rand(5, 2) * 25), dim=1)
    expected = BitMasks(masks)[index].crop_and_resize(boxes, 7)
    assert torch.equal(SharedMasks(masks)[index].crop_and_resize(boxes, 7), expected)


def test_shared_masks_are_indexed_without_copies(masks):
    shared = SharedMasks(masks)[torch.tensor([3, 1, 1])][torch.tensor([True, False, True])]
    assert shared.index.tolist() == [3, 1]
    assert shared[1].index.tolist() == [1]
    assert shared[:1].index.tolist() == [3]
    assert shared.masks is masks


def test_shared_masks_are_a_field_of_instances(masks):
    entry = Instances((20, 30), gt_visible_masks=SharedMasks(masks))
    chosen = entry[torch.tensor([1, 1, 0])].to("cpu")
    assert len(chosen) == 3
    assert chosen.gt_visible_masks.index.tolist() == [1, 1, 0]


def test_shared_masks_without_references_crop_to_nothing():
    empty = SharedMasks(torch.zeros(0, 20, 30, dtype=torch.bool))
    assert empty.crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)


def test_shared_masks_refuse_other_shapes_and_numbers(masks):
    with pytest.raises(ValueError, match=r"expected masks \[M, H, W\], got \[20, 30\]"):
        SharedMasks(masks[0])
    with pytest.raises(ValueError, match="expected 4 boxes, got 1"):
        SharedMasks(masks).crop_and_resize(torch.zeros(1, 4), 7)
