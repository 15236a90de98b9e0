"""The two convolution paths that all parts of SaVos are made of.

Patches have 64 x 128 pixels; the down path ends with one, the up path begins there. Parameter names
are the official ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

PATCH_SIZE = (64, 128)
"""Height and width of a patch in pixels, fixed by the paths."""

_DOWN = (
    (4, 2, 1),
    (4, 2, 1),
    (4, 2, 1),
    (4, 2, 1),
    ((3, 4), (1, 2), 1),
    (4, 1, 0),
)  # kernel, stride, padding
_SLOPE = 0.01


def down_blocks(in_channels: int, channels: Sequence[int]) -> list[nn.Sequential]:
    """Make the six blocks from a patch to one pixel.

    Args:
        in_channels: of the patch.
        channels: of the blocks' outputs.
    """
    sizes = [in_channels, *channels]
    return [
        nn.Sequential(
            nn.Conv2d(before, after, kernel, stride, padding),
            nn.GroupNorm(1, after),
            nn.LeakyReLU(_SLOPE),
        )
        for before, after, (kernel, stride, padding) in zip(sizes, channels, _DOWN, strict=False)
    ]


def up_blocks(in_channels: int, channels: Sequence[int]) -> list[nn.Sequential]:
    """Make the six blocks from one pixel to a patch.

    Args:
        in_channels: of the pixel.
        channels: of the blocks' outputs.
    """
    sizes = [in_channels, *channels]
    return [
        nn.Sequential(
            nn.GroupNorm(1, before),
            nn.LeakyReLU(_SLOPE),
            nn.ConvTranspose2d(before, after, kernel, stride, padding),
        )
        for before, after, (kernel, stride, padding) in zip(
            sizes, channels, reversed(_DOWN), strict=False
        )
    ]
