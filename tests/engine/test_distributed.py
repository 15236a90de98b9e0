"""Batch normalisation over all processes."""

import pytest
import torch
from torch import nn

from amodal2.engine import wrap_distributed
from amodal2.utils.detectron2_compat import launch
from tests.engine.norms import batches, build_net, norm_process, two_steps


def test_wrap_distributed_one_process_leaves_the_model_alone():
    net = build_net()
    layers = list(net)
    assert wrap_distributed(net) is net
    assert all(a is b for a, b in zip(net, layers, strict=True))


@pytest.mark.slow
def test_synchronise_batch_norm_two_processes_give_the_numbers_of_one(tmp_path):
    launch(norm_process, 2, device="cpu", args=(str(tmp_path),))
    results = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    images, weights = batches()
    net = build_net()
    two_steps(net, images, weights, share=1.0)
    state, gradients = net.state_dict(), {name: x.grad for name, x in net.named_parameters()}
    evaluated = net.eval()(images)
    for result in results:
        assert result["same"]
        exact = {"atol": 1e-9, "rtol": 1e-9}
        torch.testing.assert_close(result["gradients"], gradients, **exact)
        torch.testing.assert_close(result["state"], state, **exact)
        torch.testing.assert_close(result["evaluated"], evaluated, **exact)
    # The statistics of bfloat16 activations are taken in float32.
    layer = nn.BatchNorm2d(4)
    layer.load_state_dict({k[2:]: v for k, v in state.items() if k.startswith("1.")})
    half = layer(images.bfloat16().repeat(1, 2, 1, 1))
    torch.testing.assert_close(torch.cat([r["half"] for r in results]), half, atol=0.02, rtol=0.01)
