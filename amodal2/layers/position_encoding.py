"""Sine position codes of DETR-style models (Mask2Former, Mask2Former-VIS)."""

import math

import torch
from torch import Tensor

_TEMPERATURE = 10000.0


def _axis_code(count: int, features: int, like: Tensor) -> Tensor:
    """Code 1..count, scaled to (0, 2 pi], as interleaved sine and cosine."""
    position = torch.arange(1, count + 1, dtype=torch.float32, device=like.device)
    position = position / (count + 1e-6) * (2 * math.pi)
    index = torch.arange(features, dtype=torch.float32, device=like.device)
    period = _TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / features)
    angle = position[:, None] / period
    return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)


def sine_position_2d(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Code every position of a feature map, the row in the first half of the channels.

    Coordinates are counts from 1 divided by the number of rows or columns (Mask2Former; DETR, Sec.
    A.4).

    Args:
        height: rows.
        width: columns.
        channels: width of the code, a multiple of 4.
        like (Tensor): gives the device.

    Returns:
        Tensor[channels, height, width]: float32.
    """
    half = channels // 2
    rows = _axis_code(height, half, like).t()[:, :, None].expand(half, height, width)
    columns = _axis_code(width, half, like).t()[:, None, :].expand(half, height, width)
    return torch.cat((rows, columns), dim=0)


def sine_position_3d(frames: int, height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Code every position of a clip: the 2-D code plus a temporal one of full width.

    Args:
        frames: frames of the clip; time is normalised by this number.
        height: rows.
        width: columns.
        channels: width of the code, a multiple of 4.
        like (Tensor): gives the device.

    Returns:
        Tensor[frames, channels, height, width]: float32.
    """
    spatial = sine_position_2d(height, width, channels, like)
    temporal = _axis_code(frames, channels, like)
    return spatial[None] + temporal[:, :, None, None]
