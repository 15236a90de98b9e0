"""Losses of clip queries."""

from typing import Any

import pytest
import torch

from amodal2.modeling.mask_classification.clip_criterion import ClipCriterion, similarity_loss
from amodal2.modeling.mask_classification.criterion import MaskTarget, PointLoss
from amodal2.modeling.mask_classification.label_assignment import LabelAssignment
from amodal2.modeling.mask_classification.object_association import ClipQueries

_LAYERS, _BATCH, _FRAMES, _SLOTS = 2, 2, 3, 5


def make_queries(decoder_layers: int = 2) -> ClipQueries:
    shape = (decoder_layers, _LAYERS, _BATCH, _SLOTS)
    return ClipQueries(
        queries=torch.randn(*shape, 8),
        class_logits=torch.randn(*shape, 4),
        mask_embed=torch.randn(*shape, 8),
        frame_sim=torch.randn(_LAYERS, _BATCH, _FRAMES, 4, 8),
        clip_sim=torch.randn(*shape, 8),
    )


def make_targets(seed: int = 0) -> list[MaskTarget]:
    masks = torch.zeros(2, _FRAMES, 16, 16, dtype=torch.bool)
    masks[0, :, :8] = True
    masks[1, 1:, 8:, 4:] = True
    return [
        MaskTarget(torch.tensor([0, 2]), masks, torch.Generator().manual_seed(seed + i))
        for i in range(_BATCH)
    ]


def criterion(**changes: Any) -> ClipCriterion:
    options = {
        "similarity_weight": 0.0,
        "num_classes": 3,
        "no_object_weight": 0.1,
        "class_weight": 2.0,
        "mask_weight": 5.0,
        "dice_weight": 5.0,
        "points": PointLoss(32, 3.0, 0.75),
    }
    return ClipCriterion(**(options | changes))


@pytest.mark.parametrize("of_clips", [True, False])
def test_similarity_loss_equals_loops_over_pairs(of_clips: bool) -> None:
    queries = make_queries()
    index = torch.tensor
    frame_pairs = [
        [[(index([0, 2]), index([1, 0]))] * _FRAMES, [(index([3]), index([0]))] * _FRAMES],
        [[(index([1]), index([1]))] * _FRAMES, [(index([]).long(), index([]).long())] * _FRAMES],
    ]
    clip_pairs = [(index([4, 1]), index([0, 1]))] * (_LAYERS * _BATCH)
    total, count = 0.0, 0
    for layer in range(_LAYERS):
        for video in range(_BATCH):
            items = [
                (queries.frame_sim[layer, video, t, slot], number)
                for t, (slots, numbers) in enumerate(frame_pairs[layer][video])
                for slot, number in zip(slots.tolist(), numbers.tolist(), strict=True)
            ]
            if of_clips:
                slots, numbers = clip_pairs[layer * _BATCH + video]
                items += [
                    (queries.clip_sim[-1, layer, video, slot], number)
                    for slot, number in zip(slots.tolist(), numbers.tolist(), strict=True)
                ]
            for a, first in items:
                for b, second in items:
                    sign = 1 if first == second else -1
                    total += float(torch.nn.functional.softplus(-sign * (a @ b)))
                    count += 1
    found = similarity_loss(queries, clip_pairs if of_clips else None, frame_pairs)
    assert float(found) == pytest.approx(total / count, rel=1e-5)


def test_similarity_loss_without_objects_is_zero_and_has_gradients() -> None:
    queries = make_queries()
    queries.frame_sim.requires_grad_()
    empty = (torch.zeros(0, dtype=torch.int64),) * 2
    loss = similarity_loss(
        queries, [empty] * (_LAYERS * _BATCH), [[[empty] * _FRAMES] * _BATCH] * _LAYERS
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert queries.frame_sim.grad is not None


def test_clip_losses_layers_act_as_batch() -> None:
    queries = make_queries(1)
    features = torch.randn(_BATCH, _FRAMES, 8, 4, 4)
    losses = criterion().clip_losses(queries, features, make_targets(), [])
    flat = ClipQueries(
        queries.queries.flatten(1, 2)[:, None],
        queries.class_logits.flatten(1, 2)[:, None],
        queries.mask_embed.flatten(1, 2)[:, None],
    )
    targets = make_targets()
    expected = criterion().clip_losses(
        flat, features.repeat(_LAYERS, 1, 1, 1, 1), [*targets, *targets], []
    )
    assert set(losses) == {"loss_ce", "loss_mask", "loss_dice"}
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


def test_clip_losses_objects_outside_the_clip_are_no_targets() -> None:
    queries, features = make_queries(), torch.randn(_BATCH, 1, 8, 4, 4)
    whole = make_targets()
    first = [MaskTarget(t.labels, t.masks[:, :1], t.generator) for t in whole]
    only = [MaskTarget(t.labels[:1], t.masks[:1, :1], t.generator) for t in make_targets()]
    losses = criterion().clip_losses(queries, features, first, [])
    expected = criterion().clip_losses(queries, features, only, [])
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


def test_clip_losses_assignment_of_an_earlier_clip_is_kept() -> None:
    features = torch.randn(_BATCH, _FRAMES, 8, 4, 4)
    assignments = [
        [LabelAssignment(_SLOTS, 2, torch.device("cpu")) for _ in range(_LAYERS * _BATCH)]
        for _ in range(2)
    ]
    targets, one = make_targets(), criterion()
    one.clip_losses(make_queries(), features, targets, [], assignments)
    before = [[a.pairs()[0].tolist() for a in layer] for layer in assignments]
    one.clip_losses(make_queries(), features, targets, [], assignments)
    assert [[a.pairs()[0].tolist() for a in layer] for layer in assignments] == before
    assert before[0] != before[1]  # each decoder layer has its own
