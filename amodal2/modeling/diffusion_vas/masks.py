"""From generated videos to masks (official post-processing).

Letters: K samples, T frames, H W image.
"""

from __future__ import annotations

from torch import Tensor

THRESHOLD = 600
"""A pixel belongs to the object if its three channels of 0..255 sum up to more than this."""

FULL = 3 * 255

WHITE = 0.9
"""A pixel of a painted object has a channel below this; the background is 1 (own choice)."""


def to_uint8(frames: Tensor) -> Tensor:
    """Round generated frames as the official code does.

    Args:
        frames (Tensor[..., 3, H, W]): in [0, 1].

    Returns:
        Tensor[..., 3, H, W]: uint8.
    """
    return (frames * 255).round().byte()


def mask_probability(frames: Tensor) -> Tensor:
    """Return how white every pixel of a generated mask is.

    Args:
        frames (Tensor[..., 3, H, W]): in [0, 1].

    Returns:
        Tensor[..., H, W]: float in [0, 1]; the official rule is ``> THRESHOLD / FULL``.
    """
    return to_uint8(frames).sum(-3).float() / FULL


def amodal_masks(probability: Tensor, visible: Tensor | None = None) -> Tensor:
    """Apply the official threshold, and add the visible mask.

    Args:
        probability (Tensor[..., T, H, W]): of :func:`mask_probability`.
        visible (Tensor[T, H, W] | None): bool; None leaves the prediction as it is.

    Returns:
        Tensor[..., T, H, W]: bool.
    """
    # Compared as whole numbers: 600 / 765 is none of the floats.
    masks = (probability * FULL).round() > THRESHOLD
    return masks if visible is None else masks | visible


def painted_masks(frames: Tensor, visible: Tensor) -> Tensor:
    """Take what is not white of generated objects, and add the visible mask.

    Args:
        frames (Tensor[..., T, 3, H, W]): objects on white, in [0, 1].
        visible (Tensor[T, H, W]): bool.

    Returns:
        Tensor[..., T, H, W]: bool.
    """
    return (frames.amin(-3) < WHITE) | visible


def majority_vote(samples: Tensor) -> Tensor:
    """Keep the pixels of more than half of the samples.

    Args:
        samples (Tensor[K, ...]): bool.

    Returns:
        Tensor[...]: bool.
    """
    return 2 * samples.sum(0) > samples.shape[0]
