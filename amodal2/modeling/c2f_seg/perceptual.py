"""LPIPS, the perceptual distance in the VQ model's reconstruction loss.

Shapes: B masks, S side in pixels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import vgg16

_SLICES = (4, 9, 16, 23, 30)
"""Ends of the slices in torchvision's numbering of VGG-16's layers."""
_CHANNELS = (64, 128, 256, 512, 512)
_PREFIX = "perceptual_loss."


class _Features(nn.Module):
    """VGG-16 up to its last ReLU, in five slices with torchvision's layer numbers."""

    def __init__(self) -> None:
        super().__init__()
        layers = list(vgg16(weights=None).features.named_children())
        for number, (start, stop) in enumerate(zip((0, *_SLICES), _SLICES, strict=False), 1):
            part = nn.Sequential()
            for name, layer in layers[start:stop]:
                part.add_module(name, layer)
            self.add_module(f"slice{number}", part)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for part in self.children():
            x = part(x)
            found.append(x)
        return found


class _Shift(nn.Module):
    """Brings values to VGG's range; one channel becomes three."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[None, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale


class _Weights(nn.Module):
    """Weights of the channels of one slice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class PerceptualLoss(nn.Module):
    """Distance between the VGG features of two masks (official ``d_model.perceptual_loss``).

    Always fixed and in evaluation mode; the official training leaves the dropout on by mistake.
    """

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.scaling_layer = _Shift()
        self.net = _Features()
        for number, channels in enumerate(_CHANNELS):
            self.add_module(f"lin{number}", _Weights(channels))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, masks: Tensor, others: Tensor) -> Tensor:
        """Compare masks Tensor[B, 1, S, S] with others; returns Tensor[B, 1, 1, 1]."""
        total: Tensor | None = None
        pairs = zip(self._features(masks), self._features(others), strict=True)
        for number, (one, other) in enumerate(pairs):
            weigh = self.get_submodule(f"lin{number}")
            term = weigh((one - other).square()).mean(dim=(2, 3), keepdim=True)
            total = term if total is None else total + term
        assert total is not None, "there are five slices"
        return total

    def _features(self, masks: Tensor) -> list[Tensor]:
        """Return the features of five slices, of length 1 at every position."""
        found = self.net(self.scaling_layer(masks))
        return [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in found]


def load_perceptual_loss(files: str) -> PerceptualLoss:
    """Build LPIPS from its weight files.

    Args:
        files: names separated by commas; together they have ``lin*`` and VGG-16 as ``net.slice*``
            or ``features.*``, alone or inside an official ``vqgan_*.pth``.

    Returns:
        PerceptualLoss: ready to use.

    Raises:
        ValueError: naming what is missing.
    """
    model = PerceptualLoss()
    state = {}
    for name in files.split(","):
        state.update({_rename(key): value for key, value in _read(name.strip()).items()})
    wanted = model.state_dict()
    fixed = {name for name in wanted if name.startswith("scaling_layer.")}
    missing = [name for name in wanted if name not in state and name not in fixed]
    if missing:
        raise ValueError(
            f"load_perceptual_loss: expected VGG-16 and the weights of LPIPS in {files}, got "
            f"{len(missing)} names less, such as {missing[0]}"
        )
    model.load_state_dict({**wanted, **{name: state[name] for name in wanted if name in state}})
    return model


def _read(path: str) -> dict[str, Tensor]:
    if Path(path).suffix == ".safetensors":
        return load_file(path)
    data = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("d_model", "model"):
        data = data.get(key, data)
    return data


def _rename(key: str) -> str:
    """Bring a name to those of :class:`PerceptualLoss`."""
    key = key.partition(_PREFIX)[2] or key
    if key.startswith("features."):
        number = int(key.split(".")[1])
        part = 1 + next(i for i, stop in enumerate(_SLICES) if number < stop or stop == _SLICES[-1])
        key = f"net.slice{part}.{key.removeprefix('features.')}"
    return key
