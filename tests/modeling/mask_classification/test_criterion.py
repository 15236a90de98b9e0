"""Matching and losses on cases worked out by hand."""

import math

import pytest
import torch

from amodal2.modeling.mask_classification.criterion import (
    MaskTarget,
    PointLoss,
    SetCriterion,
    class_loss,
)
from amodal2.modeling.mask_classification.matcher import MaskTerm, match_slots
from amodal2.modeling.mask_classification.points import (
    sample_generator,
    sample_points,
    uncertain_points,
)
from amodal2.modeling.mask_classification.transformer_decoder import MaskPrediction

_MASKS = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
_MASKS[0, :, :4] = True
_MASKS[1, :, 4:] = True


def certain(masks: torch.Tensor) -> torch.Tensor:
    return torch.where(masks, 4.0, -4.0)


def assign(logits: torch.Tensor, classes: torch.Tensor | None = None, **options):
    term = MaskTerm(logits, _MASKS, 5.0, 5.0)
    return match_slots(
        classes,
        torch.tensor([0, 1]),
        [term],
        class_weight=2.0,
        num_points=64,
        generator=sample_generator(0),
        **options,
    )


def test_match_slots_finds_the_equal_masks() -> None:
    slots, objects = assign(certain(_MASKS[[1, 1, 0]]) * torch.tensor([1.0, 0, 1]).view(3, 1, 1, 1))
    assert dict(zip(objects.tolist(), slots.tolist(), strict=True)) == {0: 2, 1: 0}


def test_match_slots_equal_masks_go_by_class() -> None:
    classes = torch.tensor([[0.0, 5, 0], [5, 0, 0]])
    slots, objects = assign(torch.zeros(2, 1, 8, 8), classes)
    assert dict(zip(objects.tolist(), slots.tolist(), strict=True)) == {0: 1, 1: 0}


def test_match_slots_never_takes_a_blocked_slot() -> None:
    blocked = torch.tensor([True, False, True])
    slots, objects = assign(certain(_MASKS[[0, 1, 1]]), blocked=blocked)
    assert (slots.tolist(), objects.tolist()) == ([1], [1])


def test_match_slots_nan_costs_still_assign_the_others(caplog: pytest.LogCaptureFixture) -> None:
    logits = certain(_MASKS[[0, 1, 1]])
    logits[1] = float("nan")
    slots, objects = assign(logits)
    assert dict(zip(objects.tolist(), slots.tolist(), strict=True)) == {0: 0, 1: 2}


def test_match_slots_without_objects_is_empty() -> None:
    term = MaskTerm(torch.zeros(3, 1, 8, 8), _MASKS[:0], 5.0, 5.0)
    slots, objects = match_slots(
        torch.zeros(3, 4),
        torch.zeros(0, dtype=torch.int64),
        [term],
        class_weight=2.0,
        num_points=8,
        generator=sample_generator(0),
    )
    assert slots.numel() == objects.numel() == 0


def test_point_loss_constant_logits_equal_the_formula() -> None:
    masks = torch.ones(1, 2, 8, 8, dtype=torch.bool)
    number = 16
    bce, dice = PointLoss(number, 3.0, 0.75)(
        torch.zeros(1, 2, 4, 4), torch.nn.functional.pad(masks, (0, 0)), sample_generator(1)
    )
    inside = sample_points(torch.ones(2, 1, 8, 8), torch.rand(2, 4, 2)).numel()
    assert inside == 8
    assert float(bce) == pytest.approx(math.log(2), abs=1e-6)
    assert 0 < float(dice) < 0.4


def test_uncertain_points_prefer_the_boundary() -> None:
    logits = torch.linspace(-4, 4, 32).expand(1, 1, 32, 32)
    chosen = uncertain_points(logits, 64, 3.0, 1.0, sample_generator(0))
    uniform = torch.rand(1, 64, 2)
    assert sample_points(logits, chosen).abs().mean() < sample_points(logits, uniform).abs().mean()


def test_sample_generator_streams_differ_and_repeat() -> None:
    draws = [torch.rand(8, generator=sample_generator(3, stream)) for stream in (0, 1, 2, 1)]
    plain = torch.rand(8, generator=torch.Generator().manual_seed(3))
    assert torch.equal(draws[0], plain)
    assert torch.equal(draws[1], draws[3])
    assert len({tuple(x.tolist()) for x in draws}) == 3


def test_sample_points_reads_pixel_centres() -> None:
    maps = torch.arange(12.0).view(1, 1, 3, 4)
    points = torch.tensor([[[0.5 / 4, 0.5 / 3], [3.5 / 4, 2.5 / 3]]])
    assert sample_points(maps, points).flatten().tolist() == pytest.approx([0.0, 11.0], abs=1e-5)


def test_class_loss_divides_by_the_weights() -> None:
    logits = torch.zeros(1, 4, 3)
    labels = torch.tensor([[0, 2, 2, 2]])
    weights = torch.tensor([1.0, 1.0, 0.1])
    assert float(class_loss(logits, labels, weights)) == pytest.approx(math.log(3), abs=1e-6)


def criterion(**changes) -> SetCriterion:
    options = {
        "num_classes": 3,
        "no_object_weight": 0.1,
        "class_weight": 2.0,
        "mask_weight": 5.0,
        "dice_weight": 5.0,
        "points": PointLoss(64, 3.0, 0.75),
    }
    return SetCriterion(**(options | changes))


def test_set_criterion_right_prediction_costs_less_than_a_wrong_one() -> None:
    classes = torch.tensor([[[0.0, 50, 0, 0], [50, 0, 0, 0], [0, 0, 0, 50]]])
    target = MaskTarget(torch.tensor([0, 1]), _MASKS, sample_generator(0))
    right = criterion()([MaskPrediction(classes, certain(_MASKS[[1, 0, 0], 0])[None])], [target])
    wrong = criterion()([MaskPrediction(-classes, certain(~_MASKS[[1, 1, 1], 0])[None])], [target])
    assert float(right["loss_ce"]) < 1e-6
    assert all(float(right[name]) < 0.5 * float(wrong[name]) for name in right)


@pytest.mark.parametrize(("deep", "count"), [(True, 9), (False, 3)])
def test_set_criterion_deep_supervision_names_every_step(deep: bool, count: int) -> None:
    step = MaskPrediction(torch.zeros(1, 4, 4), torch.zeros(1, 4, 8, 8))
    target = MaskTarget(torch.tensor([0, 1]), _MASKS, sample_generator(0))
    losses = criterion(deep_supervision=deep)([step] * 3, [target])
    assert len(losses) == count
    assert ("loss_dice_1" in losses) == deep


def test_set_criterion_loading_keeps_the_configured_weights() -> None:
    saved = criterion(no_object_weight=0.5).half().state_dict()
    assert list(saved) == ["empty_weight"]
    model = torch.nn.ModuleDict({"criterion": criterion(no_object_weight=0.1)})
    model.load_state_dict({"criterion.empty_weight": saved["empty_weight"]})
    weights = model["criterion"].empty_weight
    assert weights.tolist() == torch.tensor([1.0, 1.0, 1.0, 0.1]).tolist()
    assert float(saved["empty_weight"][-1]) == 0.5


@pytest.mark.parametrize(
    ("oversample", "importance", "message"),
    [
        (0.9, 0.75, "OVERSAMPLE_RATIO to be at least 1, got 0.9"),
        (3.0, -0.1, r"IMPORTANCE_SAMPLE_RATIO in \[0, 1\], got -0.1"),
        (3.0, 1.5, r"IMPORTANCE_SAMPLE_RATIO in \[0, 1\], got 1.5"),
    ],
)
def test_point_loss_wrong_share_is_named(
    oversample: float, importance: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PointLoss(64, oversample, importance)
