"""Products that stand for mask logits."""

import torch

from amodal2.modeling.mask_classification.criterion import MaskTarget, PointLoss, SetCriterion
from amodal2.modeling.mask_classification.points import sample_points
from amodal2.modeling.mask_classification.slot_masks import BatchMasks
from amodal2.modeling.mask_classification.transformer_decoder import (
    MaskPrediction,
    ProductPrediction,
)


def make_masks() -> tuple[BatchMasks, torch.Tensor]:
    """Two sets of embeddings on the features of three clips, and their logits."""
    masks = BatchMasks(torch.randn(6, 5, 8), torch.randn(3, 2, 8, 6, 7))
    features = masks.features.repeat(2, 1, 1, 1, 1)
    return masks, torch.einsum("bnc,btchw->bnthw", masks.embed, features)


def test_slot_masks_are_the_logits_of_their_clip() -> None:
    masks, logits = make_masks()
    slots, points = torch.tensor([3, 0]), torch.rand(1, 40, 2)
    for i in range(6):
        torch.testing.assert_close(masks[i][slots], logits[i][slots])
        expected = sample_points(logits[i].flatten(0, 1)[None], points)[0].view(5, -1)
        torch.testing.assert_close(masks[i].at_points(points), expected, atol=1e-5, rtol=1e-5)


def test_criterion_products_give_losses_and_gradients_of_logits() -> None:
    criterion = SetCriterion(
        num_classes=3,
        no_object_weight=0.1,
        class_weight=2.0,
        mask_weight=5.0,
        dice_weight=5.0,
        points=PointLoss(32, 3.0, 0.75),
    )
    classes, truth = torch.randn(6, 5, 4), torch.rand(6, 2, 2, 24, 28) > 0.5
    found = []
    for lazy in (True, False):
        torch.manual_seed(1)
        masks, _ = make_masks()
        masks.embed.requires_grad_()
        masks.features.requires_grad_()
        features = masks.features.repeat(2, 1, 1, 1, 1)
        logits = torch.einsum("bnc,btchw->bnthw", masks.embed, features)
        targets = [
            MaskTarget(torch.tensor([0, 2]), x, torch.Generator().manual_seed(i))
            for i, x in enumerate(truth)
        ]
        kind = ProductPrediction(classes, masks) if lazy else MaskPrediction(classes, logits)
        losses, _ = criterion.score(kind, targets, torch.tensor(12.0))
        sum(losses.values()).backward()
        found.append((losses, masks.embed.grad, masks.features.grad))
    for name, loss in found[0][0].items():
        torch.testing.assert_close(loss, found[1][0][name])
    for lazy_grad, grad in zip(found[0][1:], found[1][1:], strict=True):
        assert grad.abs().sum() > 0
        torch.testing.assert_close(lazy_grad, grad, atol=1e-5, rtol=1e-4)
