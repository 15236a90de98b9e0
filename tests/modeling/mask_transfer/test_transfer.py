import pytest
import torch

from amodal2.modeling.mask_transfer.transfer import (
    Placement,
    agreement,
    others_of,
    refine_affine,
    transfer_masks,
    unite_with_visible,
)


def box_mask(y0, y1, x0, x1, size=(40, 60)):
    mask = torch.zeros(size)
    mask[y0:y1, x0:x1] = 1
    return mask


def test_transfer_masks_lands_at_the_centre_at_the_scale():
    masks = torch.zeros(1, 12, 20)
    masks[0, :8, :10] = 1
    placement = Placement(torch.tensor([[30.0, 20.0]]), torch.tensor([[2.0, 1.5]]))
    found = transfer_masks(masks, torch.tensor([[8, 10]]), placement, (40, 60)) >= 0.5
    assert found[0].equal(box_mask(14, 26, 20, 40).bool())


def test_transfer_masks_outside_the_image_is_cut_and_nothing_is_legal():
    masks, sizes = torch.ones(1, 8, 10), torch.tensor([[8, 10]])
    placement = Placement(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 2.0]]))
    found = transfer_masks(masks, sizes, placement, (40, 60)) >= 0.5
    assert int(found.sum()) == 8 * 10
    empty = Placement(torch.zeros(0, 2), torch.zeros(0, 2))
    assert transfer_masks(masks[:0], sizes[:0], empty, (4, 6)).shape == (0, 4, 6)


def test_agreement_ignores_what_others_cover():
    mask, visible = box_mask(0, 10, 0, 20), box_mask(0, 10, 0, 10)
    none, front = torch.zeros(40, 60), box_mask(0, 10, 10, 20)
    assert agreement(mask[None], visible[None], none[None]).tolist() == pytest.approx([0.5])
    assert agreement(mask[None], visible[None], front[None]).tolist() == pytest.approx([1.0])


def test_refine_affine_moves_and_scales_towards_the_visible_mask():
    masks, sizes = torch.ones(2, 8, 10), torch.tensor([[8, 10], [8, 10]])
    start = Placement(torch.tensor([[28.0, 21.0], [30.0, 20.0]]), torch.full((2, 2), 2.0))
    visible = torch.stack([box_mask(11, 29, 22, 44), box_mask(12, 28, 20, 40)])
    hidden = torch.zeros_like(visible)
    found = refine_affine(masks, sizes, start, visible, hidden)
    before, after = (
        agreement((transfer_masks(masks, sizes, p, (40, 60)) >= 0.5).float(), visible, hidden)
        for p in (start, found)
    )
    assert after[0] > before[0] + 0.1
    assert after[1] >= before[1] > 0.99


def test_unite_with_visible_keeps_the_visible_and_claims_only_the_hidden():
    visible, others = box_mask(10, 20, 10, 20).bool(), box_mask(10, 20, 20, 30).bool()
    mask = box_mask(5, 20, 14, 34).bool()
    found = unite_with_visible(mask[None], visible[None], others[None], 2)[0]
    assert found[10:20, 10:20].all()
    assert found[10:20, 20:30].all()
    assert found[8:10, 14:22].all()
    assert not found[:8].any()
    assert not found[:, 30:].any()


def test_others_of_is_the_union_of_the_others_where_the_object_is_not_seen():
    masks = torch.stack([box_mask(0, 5, 0, 5), box_mask(3, 8, 3, 8), box_mask(20, 22, 0, 9)]).bool()
    found = others_of(masks)
    for n in range(3):
        union = masks[[i for i in range(3) if i != n]].any(dim=0)
        assert found[n].equal(union & ~masks[n])


def test_an_object_found_twice_is_refined_as_one_found_once():
    reference, visible = box_mask(0, 10, 0, 10)[None], box_mask(7, 17, 5, 15).bool()
    placement = Placement(torch.tensor([[8.0, 14.0]]), torch.ones(1, 2))
    results = []
    for found in (visible[None], visible.expand(2, -1, -1)):
        others = others_of(found)[:1].float()
        sizes = torch.tensor([[10, 10]])
        results.append(refine_affine(reference, sizes, placement, visible[None].float(), others))
    assert results[0].centre.equal(results[1].centre)
    assert not results[0].centre.equal(placement.centre)
