"""Encoder and decoder of the mask VQ model: VQ-GAN of taming-transformers without attention.

Shapes: B masks, S side of a mask in pixels, h = S / 2^(levels - 1) side of the code grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal2.ops import conv3x3


class ShiftedGroupNorm(nn.GroupNorm):
    """Group normalisation that takes about the mean out first where channels are innermost.

    There PyTorch's CPU kernel takes the variance as a difference of squares, which is far off for
    the flat maps of masks. The shift, the mean of every 16th pixel, changes neither the result nor
    its gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map Tensor[B, C, s, s] to the same shape."""
        if x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last):
            with torch.no_grad():
                mean = (
                    x[:, :, ::4, ::4]
                    .mean(dim=(2, 3))
                    .unflatten(1, (self.num_groups, -1))
                    .mean(dim=2)
                )
                mean = mean.repeat_interleave(self.num_channels // self.num_groups, dim=1)
            x = x - mean[:, :, None, None]
        return super().forward(x)


def norm(channels: int, groups: int) -> nn.GroupNorm:
    """Return the normalisation that comes before every convolution."""
    return ShiftedGroupNorm(groups, channels, eps=1e-6)


def channels_last(x: Tensor) -> Tensor:
    """Put the channels of a CPU's map innermost in memory.

    Its convolutions want them there, and else move every input and output to and fro. The encoder
    keeps the usual order: on its flat maps the rounding of the other one could change codes.
    """
    if x.device.type != "cpu":
        return x
    return x.contiguous(memory_format=torch.channels_last)


def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 3x3 convolution of stride 1; by Winograd's way where channels are innermost."""
    if x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last):
        return conv3x3(x, layer.weight, layer.bias)
    return layer(x)


def activate(x: Tensor) -> Tensor:
    """Apply SiLU, in place where no gradient needs the argument."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class ResBlock(nn.Module):
    """Two normalised 3x3 convolutions around a skip connection."""

    def __init__(self, channels: int, out_channels: int, groups: int) -> None:
        """Build the layers; the skip is a 1x1 convolution where the width changes."""
        super().__init__()
        self.norm1 = norm(channels, groups)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = norm(out_channels, groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut: nn.Module | None = None
        if channels != out_channels:
            self.nin_shortcut = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map Tensor[B, C, s, s] to Tensor[B, C', s, s]."""
        y = convolve(self.conv1, activate(self.norm1(x)))
        y = convolve(self.conv2, activate(self.norm2(y)))
        y += x if self.nin_shortcut is None else self.nin_shortcut(x)
        return y


class Downsample(nn.Module):
    """Halves the sides: zeros at right and bottom, then a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        """Build the layer."""
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map Tensor[B, C, s, s] to Tensor[B, C, s / 2, s / 2]."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles the sides: nearest pixel, then a 3x3 convolution.

    On the CPU the doubled map is not built: each output pixel of a 2x2 cell sees the input through
    a 2x2 kernel, sums of the 3x3 kernel's entries, so 16 products take the place of 36.
    """

    def __init__(self, channels: int) -> None:
        """Build the layer."""
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map Tensor[B, C, s, s] to Tensor[B, C, 2 s, 2 s]."""
        if x.device.type != "cpu":
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        height, width = x.shape[2:]
        padded = F.pad(x, (1, 1, 1, 1))
        rows = []
        for a, across in enumerate(_halves(self.conv.weight, 2)):
            cells = [
                F.conv2d(
                    padded[:, :, a : a + height + 1, b : b + width + 1], kernel, self.conv.bias
                ).permute(0, 2, 3, 1)
                for b, kernel in enumerate(_halves(across, 3))
            ]
            rows.append(torch.stack(cells, dim=3))  # [B, s, s, 2, C]
        return torch.stack(rows, dim=2).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def _halves(kernel: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the kernels of length 2 that the even and the odd output pixels of an axis see."""
    first, middle, last = kernel.unbind(axis)
    return torch.stack([first, middle + last], axis), torch.stack([first + middle, last], axis)


class Middle(nn.Module):
    """The two blocks at the resolution of the codes."""

    def __init__(self, channels: int, groups: int) -> None:
        """Build the layers."""
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups)
        self.block_2 = ResBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map Tensor[B, C, h, h] to the same shape."""
        return self.block_2(self.block_1(x))


class Level(nn.Module):
    """The blocks of one resolution, then a change of resolution if there is one."""

    def __init__(
        self, channels: int, out_channels: int, blocks: int, groups: int, step: str
    ) -> None:
        """Build the layers.

        Args:
            channels: of the input.
            out_channels: of the output.
            blocks: number of residual blocks; the first one changes the width.
            groups: of the normalisations.
            step: "downsample", "upsample" or "" for none; the official name of that layer.
        """
        super().__init__()
        widths = [channels] + [out_channels] * blocks
        self.block = nn.ModuleList(
            ResBlock(before, after, groups) for before, after in itertools.pairwise(widths)
        )
        if step == "downsample":
            self.downsample = Downsample(out_channels)
        elif step == "upsample":
            self.upsample = Upsample(out_channels)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """Map Tensor[B, C, s, s] to Tensor[B, C', s', s']."""
        for block in self.block:
            x = block(x)
        return getattr(self, self.step)(x) if self.step else x


class Encoder(nn.Module):
    """From masks to features of the code grid; ``down.i`` is the level of stride 2^i."""

    def __init__(
        self,
        *,
        channels: int,
        multipliers: Sequence[int],
        blocks: int,
        groups: int,
        out_channels: int,
    ) -> None:
        """Build the layers.

        Args:
            channels: C of the finest level before its multiplier.
            multipliers: of C, one per level.
            blocks: residual blocks per level.
            groups: of the normalisations.
            out_channels: of the features.
        """
        super().__init__()
        self.conv_in = nn.Conv2d(1, channels, 3, padding=1)
        widths = [channels, *(channels * m for m in multipliers)]
        last = len(multipliers) - 1
        self.down = nn.ModuleList(
            Level(widths[i], widths[i + 1], blocks, groups, "downsample" if i < last else "")
            for i in range(last + 1)
        )
        self.mid = Middle(widths[-1], groups)
        self.norm_out = norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, masks: Tensor) -> Tensor:
        """Map masks Tensor[B, 1, S, S] to Tensor[B, C, h, h]."""
        x = self.conv_in(masks)
        for level in self.down:
            x = level(x)
        return self.conv_out(activate(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """From features of the code grid to masks; ``up`` is indexed by level and runs backwards."""

    def __init__(
        self,
        *,
        channels: int,
        multipliers: Sequence[int],
        blocks: int,
        groups: int,
        in_channels: int,
    ) -> None:
        """Build the layers.

        Args:
            channels: C of the finest level before its multiplier.
            multipliers: of C, one per level.
            blocks: residual blocks per level of the encoder; the decoder has one more.
            groups: of the normalisations.
            in_channels: of the features.
        """
        super().__init__()
        widths = [channels * m for m in multipliers]
        self.conv_in = nn.Conv2d(in_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], groups)
        before = [*widths[1:], widths[-1]]
        self.up = nn.ModuleList(
            Level(before[i], widths[i], blocks + 1, groups, "upsample" if i else "")
            for i in range(len(widths))
        )
        self.norm_out = norm(widths[0], groups)
        self.conv_out = nn.Conv2d(widths[0], 1, 3, padding=1)

    def forward(self, features: Tensor, step: int = 1) -> Tensor:
        """Map Tensor[B, C, h, h] to masks without bounds.

        Returns:
            Tensor[B, 1, S / step, S / step]: every so many rows and columns, from the first ones.
        """
        x = self.mid(self.conv_in(channels_last(features)))
        for level in reversed(self.up):
            x = level(x)
        x, last = activate(self.norm_out(x)), self.conv_out
        return F.conv2d(x, last.weight, last.bias, stride=step, padding=last.padding)
