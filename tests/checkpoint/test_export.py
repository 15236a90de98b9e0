"""Export of small weight files."""

import pytest
import torch
from safetensors import safe_open
from torch import nn

from amodal2.checkpoint import export_weights, read_weights


def make_model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.mark.parametrize("fp16", [True, False])
def test_export_weights_stores_every_entry_in_the_asked_precision(tmp_path, fp16):
    model = make_model()
    path = export_weights(model, tmp_path / "w.safetensors", fp16=fp16, metadata={"seed": "3"})
    stored = read_weights(path)["model"]
    assert stored.keys() == model.state_dict().keys()
    assert stored["0.weight"].dtype == (torch.float16 if fp16 else torch.float32)
    assert stored["1.num_batches_tracked"].dtype == torch.int64
    torch.testing.assert_close(stored["0.weight"].float(), model[0].weight, atol=1e-3, rtol=1e-3)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["seed"] == "3"


def test_export_weights_value_beyond_half_range_stays_single(tmp_path):
    model = make_model()
    model[1].running_var.fill_(1e6)
    stored = read_weights(export_weights(model, tmp_path / "w.safetensors"))["model"]
    assert stored["1.running_var"].dtype == torch.float32
    assert stored["1.running_mean"].dtype == torch.float16
    assert model[0].weight.dtype == torch.float32


def test_export_weights_shared_parameters_are_both_stored(tmp_path):
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    model[1].weight = model[0].weight
    stored = read_weights(export_weights(model, tmp_path / "w.safetensors"))["model"]
    assert torch.equal(stored["0.weight"], stored["1.weight"])
