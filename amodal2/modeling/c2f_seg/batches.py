"""Reading the samples of the object mappers, single patches and clips alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def stack_field(batch: Sequence[dict[str, Any]], field: str) -> Tensor:
    """Return a field of the one object of every frame of a batch.

    Args:
        batch: samples with "instances": ``Instances`` of one object, or a list of them.
        field: name of masks.

    Returns:
        Tensor[B, S, S]: bool; the frames of a clip follow one another.
    """
    samples = [sample["instances"] for sample in batch]
    clips = [found if isinstance(found, list) else [found] for found in samples]
    return torch.stack([frame.get(field)[0] for clip in clips for frame in clip])


def as_clip(tensor: Tensor, axes: int) -> Tensor:
    """Give a single frame, a tensor of so many axes, a first axis of length 1."""
    return tensor[None] if tensor.dim() == axes else tensor


def pad_clips(x: Tensor, frames: int, length: int) -> Tensor:
    """Repeat the last frame of clips until they are long enough.

    Args:
        x (Tensor[N * T, ...]): N clips.
        frames: T.
        length: at least T.

    Returns:
        Tensor[N * length, ...]: x itself if nothing is to be added.
    """
    if frames == length:
        return x
    clips = x.unflatten(0, (-1, frames))
    last = clips[:, -1:].expand(-1, length - frames, *clips.shape[2:])
    return torch.cat([clips, last], dim=1).flatten(0, 1)
