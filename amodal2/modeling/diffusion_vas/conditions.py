"""What the models of Diffusion-VAS are conditioned on, as videos in [-1, 1].

Letters: K samples, T frames, H W image, D size of an image embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

LAYOUTS = ("official", "block", "sequence")

NEUTRAL = -1e-6
"""Depth of a clip without depth: 0, but negative. A frame without negative values would count as
[0, 1] data and be mapped by 2x - 1 (:meth:`pipeline.DiffusionVASPipeline.preprocess`)."""


def mask_condition(masks: Tensor) -> Tensor:
    """Turn masks into a video.

    Args:
        masks (Tensor[T, H, W]): bool, or float in [0, 1].

    Returns:
        Tensor[T, 3, H, W]: float32, -1 outside and 1 inside.
    """
    return (2 * masks.float() - 1)[:, None].repeat(1, 3, 1, 1)


def depth_condition(depth: Tensor) -> Tensor:
    """Bring the depth of a clip to [-1, 1] by the extremes of all its frames.

    Args:
        depth (Tensor[T, H, W]): relative inverse depth, larger is nearer.

    Returns:
        Tensor[T, 3, H, W]: float32; ``NEUTRAL`` everywhere if the depth is constant.
    """
    depth = depth.float()
    low, high = depth.min(), depth.max()
    if high > low:
        scaled = (depth - low) / (high - low) * 2 - 1
    else:
        scaled = torch.full_like(depth, NEUTRAL)
    return scaled[:, None].repeat(1, 3, 1, 1)


def frame_condition(frames: Tensor) -> Tensor:
    """Turn frames into a video in [-1, 1].

    Args:
        frames (Tensor[T, 3, H, W]): uint8 RGB, or float in [0, 1].

    Returns:
        Tensor[T, 3, H, W]: float32.
    """
    scaled = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
    return 2 * scaled - 1


def content_condition(frames: Tensor, masks: Tensor) -> Tensor:
    """Cut an object out of its frames and put it on white.

    Args:
        frames (Tensor[T, 3, H, W]): uint8 RGB, or float in [0, 1].
        masks (Tensor[T, H, W]): bool.

    Returns:
        Tensor[T, 3, H, W]: float32 in [-1, 1].
    """
    return torch.where(masks[:, None], frame_condition(frames), 1.0)


def guidance_contexts(embeddings: Tensor, *, guided: bool, layout: str = "official") -> Tensor:
    """Arrange the image embeddings as contexts of both halves of classifier-free guidance.

    Args:
        embeddings (Tensor[T, 1, D]): one per frame.
        guided: False returns the conditional half alone.
        layout: "official" alternates zero and embedding through all rows, although the rows of the
            UNet are first all unconditional ones, then all conditional ones: row r has embedding
            r // 2 if r is odd, else 0. The released results are made so. "block" gives the first
            half zeros and the second half the embeddings. "sequence" is "block", but every frame
            sees the embeddings of all frames, as in training.

    Returns:
        Tensor[2 T, S, D]: contexts of the unconditional, then of the conditional frames; [T, S, D]
        if not guided. S is T with "sequence", else 1.

    Raises:
        ValueError: for another layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"guidance_contexts: expected a layout of {LAYOUTS}, got {layout!r}")
    if layout == "sequence":
        embeddings = sequence_contexts(embeddings)
    if not guided:
        return embeddings
    parts = [torch.zeros_like(embeddings), embeddings]
    return torch.stack(parts, 1).flatten(0, 1) if layout == "official" else torch.cat(parts)


def sequence_contexts(embeddings: Tensor) -> Tensor:
    """Let every frame see the embeddings of all frames, as the official training does.

    Args:
        embeddings (Tensor[T, 1, D]): one per frame.

    Returns:
        Tensor[T, T, D]: contexts.
    """
    return embeddings.transpose(0, 1).expand(len(embeddings), -1, -1)
