"""Losses of a tiny A2VIS with fixed weights stay what they were."""

import math

import pytest
import torch
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the model
from tests.modeling.tiny import make_sample, tiny_config


def fill(model: torch.nn.Module) -> None:
    """Give every parameter values that depend on no random generator."""
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + i)
            fan = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.copy_((wave / math.sqrt(fan)).view_as(parameter))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            ("MODEL.A2VIS.TRAIN_LEVEL", "frame", "INPUT.AMODAL.CLIP_LEN", 1),
            {"loss_ce": 3.7516, "loss_mask": 3.1926, "loss_dice": 4.1482},
        ),
        (
            (),
            {
                "loss_ce": 2.65997,
                "loss_mask": 4.55732,
                "loss_dice": 4.63692,
                "loss_amodal_mask": 17.92153,
                "loss_amodal_dice": 4.3785,
            },
        ),
    ],
    ids=["frame", "video"],
)
def test_model_losses_are_frozen(changes: tuple, expected: dict[str, float]) -> None:
    model = build_model(tiny_config(*changes)).train()
    fill(model)
    losses = model([make_sample(0), make_sample(1)])
    found = {name: float(losses[name].detach()) for name in expected}
    assert found == pytest.approx(expected, rel=0.01)
