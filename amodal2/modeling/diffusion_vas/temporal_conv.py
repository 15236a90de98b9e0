"""Convolution over time alone, fast on the CPU.

PyTorch has no fast path on the CPU for the three-dimensional convolutions of Stable Video
Diffusion, whose kernels are 3 x 1 x 1. The same numbers come from a two-dimensional one over time
and all pixels in a row.

Letters: B clips, C channels, T frames, H W image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TemporalConv3d(nn.Conv3d):
    """A convolution with a kernel k x 1 x 1, with the parameters of ``nn.Conv3d``."""

    def forward(self, video: Tensor) -> Tensor:
        """Convolve.

        Args:
            video (Tensor[B, C, T, H, W]): float.

        Returns:
            Tensor[B, C', T, H, W]: the same as that of the stock class.
        """
        if video.device.type != "cpu":
            return super().forward(video)
        padding = (int(self.padding[0]), 0)
        kernel = self.weight.flatten(3)
        found = nn.functional.conv2d(video.flatten(3), kernel, self.bias, padding=padding)
        return found.unflatten(3, video.shape[3:])


def use_temporal_convs(network: nn.Module) -> None:
    """Put :class:`TemporalConv3d` in place of the convolutions that it can stand for.

    Args:
        network: changed in place; its parameters stay the same objects under the same names.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv3d and _over_time_alone(child):
                with torch.device("meta"):
                    new = TemporalConv3d(
                        child.in_channels,
                        child.out_channels,
                        child.kernel_size,  # type: ignore[arg-type]
                        padding=child.padding,  # type: ignore[arg-type]
                        bias=child.bias is not None,
                    )
                new.weight, new.bias = child.weight, child.bias
                setattr(parent, name, new.train(child.training))


def _over_time_alone(layer: nn.Conv3d) -> bool:
    plain = layer.groups == 1 and set(layer.stride) == set(layer.dilation) == {1}
    spatial = (*layer.kernel_size[1:], *layer.padding[1:])
    return plain and layer.padding_mode == "zeros" and spatial == (1, 1, 0, 0)
