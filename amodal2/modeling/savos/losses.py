"""The losses of SaVos (Sec. 3.2): visible masks, consistency of shape, colours.

Letters: B tracks, T frames, H W region. ``counts`` (Tensor[B, T]) is 1 for a frame and 0 for one
that only fills a short track up.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from amodal2.modeling.savos.network import RGB, Direction, SavosNetwork, TrackInput

_SQUEEZE = 1e-6
_EPS = 1e-8


def mask_loss(merged: Tensor, labels: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """Compare predictions with labels where no other object is seen (L_M, Eq. 3 to 5).

    Args:
        merged (Tensor[B, T, H, W]): of ``merge_for_losses``: entry t is of frame t + 1.
        labels (Tensor[B, T, H, W]): float visible (or, with supervision, amodal) masks.
        weights (Tensor[B, T, H, W]): 0 inside other objects' visible masks, else 1.
        counts (Tensor[B, T]): see the module's docstring.

    Returns:
        Tensor[]: binary cross-entropy, summed over pixels, mean over the inner frames.
    """
    predicted = merged[:, :-2] * (1 - _SQUEEZE) + _SQUEEZE / 2
    entropy = functional.binary_cross_entropy(predicted, labels[:, 1:-1], reduction="none")
    per_frame = (entropy * weights[:, 1:-1]).sum(dim=(2, 3))
    inner = counts[:, 1:-1]
    return (per_frame * inner).sum() / inner.sum().clamp(min=1)


def soft_jaccard_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 minus the soft IoU of masks (d_C, Eq. 6).

    Args:
        first (Tensor[..., H, W]): in [0, 1].
        second (Tensor[..., H, W]): in [0, 1].

    Returns:
        Tensor[...]: in [0, 1].
    """
    both = (first * second).sum(dim=(-2, -1))
    either = (first + second - first * second).sum(dim=(-2, -1))
    return 1 - both / (either + _EPS)


def consistency_loss(
    network: SavosNetwork, merged: Tensor, motion: Tensor, counts: Tensor
) -> Tensor:
    """Compare each prediction, moved on, with the next one (L_C, Eq. 6 and 7), in one direction.

    Args:
        network: moves the masks; its options choose frames, motion and weights.
        merged (Tensor[B, T, H, W]): of ``merge_for_losses``, for the reverse direction flipped.
        motion (Tensor[B, T, 2, H, W]): of the direction, in its order of time; gets no gradient.
        counts (Tensor[B, T]): in that order.

    Returns:
        Tensor[]: summed over pairs of frames, mean over tracks.
    """
    options = network.options
    if options.late_flow:
        motion = motion[:, 1:]
    pairs = min(merged.shape[1], motion.shape[1] + 1) - 1
    if pairs < 1:
        return merged.sum() * 0
    start, end = merged[:, :pairs], merged[:, 1 : pairs + 1]
    moved = network.warp(start.flatten(0, 1)[:, None], motion[:, :pairs].detach().flatten(0, 1))
    distance = soft_jaccard_distance(moved[:, 0].unflatten(0, start.shape[:2]), end)
    weights = counts[:, 1 : pairs + 1]
    if options.falling_weights:
        weights = weights * torch.arange(pairs, 0, -1, device=counts.device)
    return (distance * weights).sum() / len(merged)


def both_consistency_losses(
    network: SavosNetwork, merged: Tensor, forward: Direction, reverse: Direction, counts: Tensor
) -> Tensor:
    """Add the consistency losses of both directions.

    Args:
        network: moves the masks.
        merged (Tensor[B, T, H, W]): of ``merge_for_losses``.
        forward: the forward direction.
        reverse: the reverse direction, in reversed time.
        counts (Tensor[B, T]): see the module's docstring.
    """
    if not network.options.stale_frames:
        # Entry t of the rest is of frame t + 1, and in reversed time of frame T - 2 - t.
        merged, counts = merged[:, :-2], counts[:, 1:-1]
    return consistency_loss(network, merged, forward.motion, counts) + consistency_loss(
        network, merged.flip(1), reverse.motion, counts.flip(1)
    )


def photometric_loss(
    network: SavosNetwork,
    tracks: TrackInput,
    forward: Direction,
    reverse: Direction,
    counts: Tensor,
) -> Tensor:
    """Compare the colours of visible pixels along the motion, with the released code's slip.

    In the reverse direction that code compares each moved frame with the one that it comes from
    instead of the one that it goes to.

    Args:
        network: moves the colours.
        tracks: the tracks.
        forward: the forward direction.
        reverse: the reverse direction, in reversed time.
        counts (Tensor[B, T]): see the module's docstring.

    Returns:
        Tensor[]: summed over pixels, mean over frames.
    """
    shape, size = tracks.visible.shape[:2], tracks.visible.shape[2:]
    windows = tracks.windows.flatten(0, 1)
    colours = network.paste(tracks.patches[:, :, RGB].flatten(0, 1), windows, size)
    colours = colours.unflatten(0, shape)

    def moved(values: Tensor, motion: Tensor) -> Tensor:
        return network.warp(values.flatten(0, 1), motion.flatten(0, 1)).unflatten(0, shape)

    weights = counts[:, 1:]
    total = colours.new_zeros(())
    seen = tracks.visible[:, :, None]
    reached = moved(seen, forward.motion)[:, :-1] != 0
    difference = (moved(colours, forward.motion)[:, :-1] - colours[:, 1:]).abs()
    where = reached & (seen[:, 1:] != 0)
    total = total + ((difference * where).sum(dim=(2, 3, 4)) * weights).sum()
    flipped = colours.flip(1)
    reached = (moved(seen.flip(1), reverse.motion)[:, :-1] != 0).flip(1)
    difference = (moved(flipped, reverse.motion)[:, 1:] - flipped[:, :-1]).abs()
    where = reached & (seen.flip(1)[:, 1:].flip(1) != 0)
    total = total + ((difference * where).sum(dim=(2, 3, 4)) * weights).sum()
    return network.options.photometric * total / weights.sum().clamp(min=1)
