"""Convolutions over time are the stock ones, on a faster way."""

import pytest
import torch
from torch import nn

pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")

from amodal2.modeling.diffusion_vas.temporal_conv import TemporalConv3d, use_temporal_convs
from tests.modeling.diffusion_vas.tiny import build_pipeline


def test_use_temporal_convs_values_and_gradients_are_the_stock_ones() -> None:
    layers = nn.Sequential(nn.Conv3d(4, 6, (3, 1, 1), padding=(1, 0, 0)), nn.ReLU())
    names = set(layers.state_dict())
    stock = layers[0]
    use_temporal_convs(layers)
    assert type(layers[0]) is TemporalConv3d
    assert layers[0].weight is stock.weight
    assert set(layers.state_dict()) == names
    results = []
    for layer in (stock, layers[0]):
        video = torch.linspace(-1, 1, 2 * 4 * 5 * 3 * 2).reshape(2, 4, 5, 3, 2).requires_grad_()
        found = layer(video.transpose(3, 4).contiguous().transpose(3, 4))
        (found**2).sum().backward()
        results.append((found.detach(), video.grad, stock.weight.grad.clone()))
        stock.weight.grad = None
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(4, 4, 3, padding=1),
        nn.Conv3d(4, 4, (3, 1, 1), stride=(2, 1, 1)),
        nn.Conv3d(4, 4, (3, 1, 1), groups=2),
    ],
)
def test_use_temporal_convs_leaves_others_alone(layer: nn.Conv3d) -> None:
    network = nn.Sequential(layer)
    use_temporal_convs(network)
    assert network[0] is layer


def test_pipeline_has_no_stock_temporal_convolution_left() -> None:
    pipeline = build_pipeline()
    for network in (pipeline.unet, pipeline.vae):
        kinds = [type(m) for m in network.modules() if isinstance(m, nn.Conv3d)]
        assert kinds
        assert set(kinds) == {TemporalConv3d}
