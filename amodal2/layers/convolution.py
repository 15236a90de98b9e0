"""A convolution layer that takes the faster way where there is one."""

from detectron2.layers import Conv2d
from torch import Tensor

from amodal2.ops import conv3x3


class Conv3x3(Conv2d):
    """3x3 convolution of stride 1 with a margin of one pixel, then norm and activation.

    Parameters and result are those of Detectron2's ``Conv2d(..., 3, padding=1)``; see
    :func:`amodal2.ops.conv3x3`.

    Args:
        in_channels: C.
        out_channels: K.
        **options: ``bias``, ``norm`` and ``activation`` of Detectron2's ``Conv2d``.
    """

    def __init__(self, in_channels: int, out_channels: int, **options: object) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x (Tensor[N, C, H, W]): maps.

        Returns:
            Tensor[N, K, H, W]: maps; in memory the channels may come last.
        """
        x = conv3x3(x, self.weight, self.bias)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)
