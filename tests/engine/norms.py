"""A small network with every kind of batch normalisation, and one process of two that trains it."""

import copy
from pathlib import Path

import torch
from detectron2.utils import comm
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from amodal2.engine import wrap_distributed


def build_net() -> nn.Module:
    """Layers of torch and timm; with the default and the cumulative average, with and without
    weights."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 1),
        BatchNormAct2d(4, act_layer=nn.SiLU),
        nn.BatchNorm2d(4, momentum=None),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.BatchNorm1d(4, affine=False),
    ).double()


def batches() -> tuple[Tensor, Tensor]:
    """Four images and the weights of a loss."""
    generator = torch.Generator().manual_seed(2)
    images = 50 + torch.randn(4, 2, 6, 5, generator=generator, dtype=torch.float64)
    return images, torch.randn(4, 4, generator=generator, dtype=torch.float64)


def two_steps(model: nn.Module, images: Tensor, weights: Tensor, share: float) -> None:
    """Add up the gradients of two training passes."""
    for step in range(2):
        loss = (model.train()(images + step * images.square() / 99) * weights).sum()
        (loss * share).backward()


def norm_process(out: str) -> None:
    """Train on three images in the first process and on one in the second."""
    torch.set_num_threads(1)
    rank = comm.get_rank()
    mine = slice(0, 3) if rank == 0 else slice(3, 4)
    images, weights = batches()
    net = build_net()
    before = {name: id(x) for name, x in net.named_parameters()}
    model = wrap_distributed(net)
    # The processes' gradients are averaged; the loss of one process is a sum.
    two_steps(model, images[mine], weights[mine], share=2.0)
    result = {
        "same": before == {name: id(x) for name, x in net.named_parameters()},
        "gradients": {name: x.grad for name, x in net.named_parameters()},
        "state": net.state_dict(),
        "evaluated": net.eval()(images).detach(),
    }
    layer = copy.deepcopy(net[1]).float().train()
    result["half"] = layer(images[mine].bfloat16().repeat(1, 2, 1, 1)).detach()
    torch.save(result, Path(out) / f"{rank}.pth")
