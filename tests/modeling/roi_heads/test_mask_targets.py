"""Ground truth that is cut out of the boxes of the regions."""

import pytest
import torch
from detectron2.structures import BitMasks, PolygonMasks

from amodal2.modeling.roi_heads.mask_kinds import KINDS
from amodal2.modeling.roi_heads.mask_targets import collect_targets, share_masks
from tests.modeling.roi_heads.tiny import make_objects, make_regions

CPU = torch.device("cpu")


def test_targets_of_an_own_box_are_exact():
    targets = collect_targets([make_regions()], KINDS, 28, CPU)
    assert targets.classes.tolist() == [0, 2]
    assert targets.masks["amodal"].mean(dim=(1, 2)).tolist() == [1.0, 1.0]
    # The back object is 34 pixels wide, of which the front one hides the right 14.
    edge = round(28 * 20 / 34)
    assert targets.masks["visible"][1, :, : edge - 1].all()
    assert not targets.masks["visible"][1, :, edge + 1 :].any()
    assert targets.masks["occluder"][1, :, edge + 1 :].all()
    assert not targets.masks["occluder"][0].any()
    assert torch.equal(
        targets.masks["invisible"], targets.masks["amodal"] * (1 - targets.masks["visible"])
    )


def test_targets_are_the_same_for_every_form_of_masks():
    regions = make_regions()
    expected = collect_targets([regions], KINDS, 14, CPU).masks
    shared = share_masks(regions)
    bits = make_regions(
        gt_visible_masks=BitMasks(regions.gt_visible_masks),
        gt_amodal_masks=PolygonMasks(
            [[[30.0, 8.0, 62.0, 8.0, 62.0, 40.0, 30.0, 40.0]],
             [[10.0, 12.0, 44.0, 12.0, 44.0, 36.0, 10.0, 36.0]]]
        ),
    )  # fmt: skip
    for form in (shared, bits):
        found = collect_targets([form], KINDS, 14, CPU).masks
        for kind in KINDS:
            assert torch.equal(found[kind], expected[kind]), kind


def test_targets_invisible_difference_drops_what_sticks_out():
    regions = make_regions()
    regions.gt_amodal_masks[1, :, :20] = False
    right = collect_targets([regions], ["invisible"], 28, CPU).masks["invisible"][1]
    official = collect_targets([regions], ["invisible"], 28, CPU, "official_xor").masks["invisible"]
    assert not right[:, :7].any()
    assert official[1, :, :7].all()


def test_targets_missing_kinds_are_unknown():
    plain = make_regions()
    for field in ("gt_visible_masks", "gt_amodal_masks", "gt_occluder_masks"):
        plain.remove(field)
    targets = collect_targets([make_regions(1), plain], KINDS, 14, CPU)
    assert targets.known["amodal"].tolist() == [True, True, True]
    assert targets.known["visible"].tolist() == [True, False, False]
    assert targets.known["invisible"].tolist() == [True, False, False]


@pytest.mark.parametrize("images", [[], [make_regions(0)]], ids=["no image", "no region"])
def test_targets_without_regions_are_empty(images):
    targets = collect_targets(images, KINDS, 14, CPU)
    assert targets.classes.shape == (0,)
    assert {tuple(mask.shape) for mask in targets.masks.values()} == {(0, 14, 14)}


def test_share_masks_keeps_the_sample():
    objects = make_objects()
    shared = share_masks(objects)
    assert isinstance(objects.gt_visible_masks, torch.Tensor)
    assert shared.gt_masks is shared.gt_amodal_masks
    assert shared.gt_visible_masks.masks is objects.gt_visible_masks
