"""The network that corrects transferred masks, its windows and its loss."""

import pytest
import torch

from amodal2.modeling.mask_transfer.inference import encode_references
from amodal2.modeling.mask_transfer.refine_net import (
    SIDE,
    RefineNet,
    paste_window,
    refine_loss,
    sample_region,
    window_points,
)
from amodal2.modeling.mask_transfer.transfer import image_points
from tests.modeling.mask_transfer.toy import crop, proposals, thing, toy_network, toy_transferrer


def test_refinement_starts_from_the_transferred_mask():
    net, masks = RefineNet(4), torch.rand(2, SIDE, SIDE)
    found = net(torch.randn(2, 3, SIDE, SIDE), *torch.rand(1, 2, SIDE, SIDE), masks, 1 - masks)
    torch.testing.assert_close(found.sigmoid(), masks.clamp(0.02, 0.98))


def test_windows_are_twice_the_crop_and_are_pasted_where_they_were_cut():
    box = torch.tensor([10.0, 20.0, 30.0, 60.0])
    points = window_points(box[None])
    half = torch.tensor([20.0, 40.0]) / SIDE
    torch.testing.assert_close(points[0, 0, 0], torch.tensor([0.0, 0.0]) + half)
    torch.testing.assert_close(points[0, -1, -1], torch.tensor([40.0, 80.0]) - half)
    image = torch.zeros(70, 90)
    image[25:50, 12:35] = 1.0
    region = {"map": image, "origin": torch.zeros(2)}
    window = sample_region(region, points)["map"]
    back = paste_window(
        window, box, image_points((70, 90), image.device), torch.full((70, 90), 7.0)
    )
    assert (back[:, 40:] == 7).all()
    torch.testing.assert_close((back[:, :40] > 0.5), image[:, :40] > 0.5)


def test_regions_are_empty_outside():
    points = window_points(torch.tensor([[0.0, 0.0, 4.0, 4.0]]))
    maps = {"image": torch.ones(3, 4, 4), "mask": torch.ones(4, 4), "origin": torch.zeros(2)}
    found = sample_region(maps, points)
    assert found["image"].shape == (3, SIDE, SIDE)
    assert found["mask"][0, 0] == 0
    assert found["mask"][SIDE // 2, SIDE // 2] == 1
    assert set(found) == {"image", "mask"}


def test_refine_loss_is_least_for_the_truth():
    amodal = torch.zeros(1, 4, 4)
    amodal[:, :2] = 1
    right, wrong = (refine_loss(sign * (40 * amodal - 20), amodal) for sign in (1, -1))
    assert right == pytest.approx(0, abs=1e-4)
    assert wrong > 20
    assert refine_loss(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4)) == 0


@pytest.mark.parametrize("refine", ["net", "affine_net"])
def test_transfer_applies_the_refinement(refine):
    network = toy_network(refine=True)
    image, mask = thing(0)
    bank = encode_references(network, *([part] for part in crop(image, mask)), [0], ["full"])
    objects = proposals(mask[None])
    plain = toy_transferrer(network, bank)(image, objects, mask[None])
    same = toy_transferrer(network, bank, refine=refine)(image, objects, mask[None])
    overlap = (same.pred_masks & plain.pred_masks).sum() / (
        same.pred_masks | plain.pred_masks
    ).sum()
    assert overlap > 0.95  # untrained, it changes nothing but what the window's grid blurs
    torch.nn.init.constant_(network.refine.last.bias, -20.0)
    none = toy_transferrer(network, bank, refine=refine)(image, objects, mask[None])
    assert none.mt_ref_id.tolist() == [-1]  # all of the mask was taken away: the visible one stays


def test_refinement_without_a_network_is_refused():
    network = toy_network()
    image, mask = thing(0)
    bank = encode_references(network, *([part] for part in crop(image, mask)), [0], ["full"])
    with pytest.raises(ValueError, match="train it with 'refine'"):
        toy_transferrer(network, bank, refine="net")
