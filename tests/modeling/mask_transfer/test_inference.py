"""From boxes and visible masks to amodal masks, on a toy network and two shapes."""

import pytest
import torch
from detectron2.structures import Boxes

from amodal2.modeling.mask_transfer.inference import encode_references
from amodal2.modeling.mask_transfer.options import TransferOptions
from tests.modeling.mask_transfer.toy import (
    CONCEPTS,
    crop,
    proposals,
    thing,
    toy_network,
    toy_transferrer,
)


@pytest.fixture(scope="module")
def network():
    """A network whose score is the share of the votes' peak that the concepts' support makes."""
    network = toy_network()
    with torch.no_grad():
        for branch in (network.vote, network.score.filter):
            branch.weight.zero_()
            branch.weight[:, 1, 1] = 1.0
        first, _, last = network.score.classifier
        first.weight.zero_()
        first.weight[0, CONCEPTS] = 1.0
        first.bias.zero_()
        last.weight.zero_()
        last.weight[0, 0] = 0.1
        last.bias.zero_()
    return network


@pytest.fixture(scope="module")
def bank(network):
    parts = [crop(*thing(kind)) for kind in (0, 1)]
    return encode_references(network, *zip(*parts, strict=True), [0, 0], ["full", "notched"])


def iou(one, other):
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("kind", [0, 1])
def test_transfer_of_a_reference_gives_its_own_mask(network, bank, kind):
    image, mask = thing(kind)
    found = toy_transferrer(network, bank)(image, proposals(mask[None]), mask[None])
    assert iou(found.pred_amodal_masks[0], mask) > 0.97
    assert found.mt_ref_id.tolist() == [kind]
    assert found.mt_center[0].tolist() == pytest.approx([24.0, 20.0], abs=0.5)
    assert found.mt_scale.tolist() == pytest.approx([1.0])
    assert found.pred_amodal_masks.equal(found.pred_masks)
    assert found.pred_visible_masks.equal(mask[None])
    assert found.scores.tolist() == pytest.approx([0.8])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subpixel": True, "topk": 2, "refine": "affine"},
        {"union_visible": True, "rerank": 1.0},
        {"shortlist": 1, "rescore": 1.0},
    ],
    ids=str,
)
def test_transfer_completes_a_cut_object_beyond_its_box(network, bank, options):
    image, mask = thing(0)
    image, visible = image.clone(), mask.clone()
    visible[:, 34:] = False
    front = torch.zeros_like(mask)
    front[2:38, 34:48] = True
    image[:, front] = 0.0
    masks = torch.stack([visible, front])
    objects = proposals(masks, [0, 1])
    network_scale = network.predict_scales([image[:, 4:36, 4:34]], [visible[4:36, 4:34]])
    assert network_scale.tolist() == pytest.approx([30 / 32])
    found = toy_transferrer(network, bank, **options)(image, objects, masks)
    completed = found.pred_amodal_masks[0]
    assert (completed & front).sum() > 0
    assert iou(completed, mask) > iou(visible, mask)
    assert found.pred_boxes.tensor[0, 2] > objects.pred_boxes.tensor[0, 2]
    if options.get("union_visible"):
        assert completed[visible].all()
    if options.get("rescore"):
        expected = 0.8 * float(found.mt_score[0])
        assert found.scores.tolist() == pytest.approx([expected, 0.8])


def test_transferred_mask_can_be_cut_at_the_box(network, bank):
    image, mask = thing(0)
    visible = mask.clone()
    visible[:, 34:] = False
    objects = proposals(visible[None])
    free, cut = (
        toy_transferrer(network, bank, clip_to_box=clip)(image, objects, visible[None])
        for clip in (False, True)
    )
    assert free.pred_masks[0, :, 34:].any()
    assert not cut.pred_masks[0, :, 34:].any()
    box = torch.zeros_like(mask)
    box[4:36, 4:34] = True
    assert cut.pred_masks[0].equal(free.pred_masks[0] & box)


def test_transfer_leaves_objects_alone_that_it_cannot_complete(network, bank):
    image, mask = thing(0)
    masks = torch.stack([mask, mask, mask])
    objects = proposals(masks, [5, 0, 0])
    objects.pred_boxes = Boxes(
        torch.tensor([[4.0, 4, 44, 36], [10, 10, 10, 30], [100, 100, 120, 110]])
    )
    found = toy_transferrer(network, bank)(image, objects, masks)
    assert found.pred_amodal_masks.equal(masks)
    assert found.mt_ref_id.tolist() == [-1, -1, -1]
    assert found.mt_score.tolist() == [0.0, 0.0, 0.0]


def test_transfer_keeps_the_mask_below_the_least_score(network, bank):
    image, mask = thing(0)
    visible = mask.clone()
    visible[:, 30:] = False
    objects = proposals(visible[None])
    found = toy_transferrer(network, bank, min_score=0.9999, rescore=1.0)(
        image, objects, visible[None]
    )
    assert found.pred_amodal_masks[0].equal(visible)
    assert found.mt_ref_id.tolist() == [-1]
    assert 0 < float(found.mt_score[0]) < 0.9999
    assert found.scores.tolist() == pytest.approx([0.8])


def test_transfer_without_objects_is_legal(network, bank):
    image, mask = thing(0)
    found = toy_transferrer(network, bank)(image, proposals(mask[None][:0]), mask[None][:0])
    assert len(found) == 0
    assert found.pred_amodal_masks.shape == (0, 40, 48)


def test_transfer_does_not_depend_on_the_other_objects(network, bank):
    image, mask = thing(1)
    small = mask.clone()
    small[:, 20:] = False
    together = torch.stack([small, mask])
    transferrer = toy_transferrer(network, bank)
    both = transferrer(image, proposals(together), together)
    alone = transferrer(image, proposals(mask[None]), mask[None])
    assert both.pred_amodal_masks[1].equal(alone.pred_amodal_masks[0])
    torch.testing.assert_close(both.mt_score[1:], alone.mt_score)


def test_transfer_masks_of_another_shape_are_refused(network, bank):
    image, mask = thing(0)
    with pytest.raises(ValueError, match=r"expected masks \(1, 40, 48\), got \(1, 40, 47\)"):
        toy_transferrer(network, bank)(image, proposals(mask[None]), mask[None, :, 1:])


def test_transfer_with_a_bank_of_other_weights_is_refused(bank):
    with pytest.raises(ValueError, match="build it again with these weights"):
        toy_transferrer(toy_network(seed=1), bank)


@pytest.mark.parametrize(
    "bad", [{"topk": 0}, {"shortlist": -1}, {"ring": -1}, {"context": 0}, {"refine": "all"}]
)
def test_options_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="TransferOptions: expected"):
        TransferOptions(**bad)
