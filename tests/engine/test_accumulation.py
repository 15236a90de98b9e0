"""Gradients of a batch in parts: those of one pass, in every system, and what stays untouched."""

import pytest
import torch
from torch import nn

from amodal2.engine import accumulation
from amodal2.engine.accumulation import split_batch
from amodal2.utils.batch_mean import mean_over_batch
from amodal2.utils.detectron2_compat import launch
from tests.engine.parts import SYSTEMS, build, gradients, process, samples


@pytest.fixture
def _double(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(default)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("system", SYSTEMS)
def test_add_gradients_parts_give_what_one_pass_gives(system: str, monkeypatch) -> None:
    model = build(system)
    losses, expected = gradients(model, samples(), 1)
    found_losses, found = gradients(model, samples(), 4)
    torch.testing.assert_close(found_losses, losses, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-7)
    # Each part by its own numbers of objects would be something else.
    monkeypatch.setattr(accumulation, "PartMeans", _OwnMeans)
    _, own = gradients(model, samples(), 4)
    assert any(not torch.allclose(own[name], expected[name], rtol=1e-2) for name in own)


class _OwnMeans(accumulation.PartMeans):
    def answer(self, value):
        return value

    def close(self) -> None:
        pass


@pytest.mark.usefixtures("_double")
@pytest.mark.slow
def test_add_gradients_two_processes_with_two_parts_give_what_one_pass_gives(tmp_path):
    launch(process, 2, device="cpu", args=("a2vis", str(tmp_path)))
    _, expected = gradients(build("a2vis"), samples(), 1)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pth", weights_only=True)
        found = {name.removeprefix("module."): x for name, x in found.items()}
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-7)


class _Sum(nn.Module):
    """A loss divided by the number of samples above a limit, behind batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.counted = []

    def forward(self, batch):
        x = torch.stack([sample["x"] for sample in batch])
        self.counted.append(torch.is_grad_enabled())
        above = (x > 0.5).sum().double()
        return {"loss": self.norm(x).square().sum() / mean_over_batch(above)}


def _vectors(count: int) -> list[dict]:
    return [{"x": x} for x in torch.rand(count, 2, generator=torch.Generator().manual_seed(4))]


def test_add_gradients_counting_leaves_batch_statistics_alone() -> None:
    model = _Sum()
    gradients(model, _vectors(6), 3)
    assert model.counted == [False] * 3 + [True] * 3
    assert int(model.norm.num_batches_tracked) == 3
    assert model.norm.training


def test_add_gradients_one_part_counts_nothing() -> None:
    model = _Sum()
    gradients(model, _vectors(6), 1)
    assert model.counted == [True]


def test_add_gradients_parts_that_count_differently_raise() -> None:
    class Uneven(_Sum):
        def forward(self, batch):
            if batch[0]["x"][0] == 0:
                mean_over_batch(torch.ones(()))
            return super().forward(batch)

    batch = _vectors(4)
    batch[0]["x"] = torch.zeros(2)
    with pytest.raises(RuntimeError, match=r"in every part of the batch, got \[2, 1\]"):
        gradients(Uneven(), batch, 2)


@pytest.mark.parametrize("parts", [3, 8])
def test_split_batch_unequal_parts_raise(parts: int) -> None:
    with pytest.raises(ValueError, match=f"samples for {parts} equal parts, got 4"):
        split_batch(_vectors(4), parts)
