"""Completers without training: the visible mask, its convex hull, and the union over time.

"convex" is the baseline of the SaVos and Diffusion-VAS papers.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from amodal2.modeling.completion.base import (
    COMPLETER_REGISTRY,
    FLOW,
    Completer,
    Completion,
    ObjectClip,
)
from amodal2.modeling.completion.crops import CropRule, mean_motion
from amodal2.ops import mask_warp


class ModalCompleter(Completer):
    """Takes the visible mask for the whole object."""

    def complete(self, clip: ObjectClip) -> Completion:
        """Return the visible masks, see :class:`Completer`."""
        return Completion(clip.visible.float()[None])


class ConvexCompleter(Completer):
    """Takes the convex hull of the pixels of the visible mask."""

    def complete(self, clip: ObjectClip) -> Completion:
        """Return the hulls, see :class:`Completer`."""
        masks = clip.visible.flatten(0, 1).cpu().numpy()
        hulls = np.stack([convex_hull(mask) for mask in masks]).reshape(clip.visible.shape)
        return Completion(torch.from_numpy(hulls).float()[None].to(clip.visible.device))


def convex_hull(mask: np.ndarray) -> np.ndarray:
    """Fill the convex hull of a mask's pixel centres.

    Args:
        mask (ndarray[H, W]): bool.

    Returns:
        ndarray[H, W]: bool, the pixels whose centre lies in the hull or on the way of its outline;
        all pixels of the mask among them.
    """
    hull = mask.astype(np.uint8)
    points = cv2.findNonZero(hull)
    if points is not None:
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return hull.astype(bool)


class UnionCompleter(Completer):
    """Carries what was seen of an object along its motion, forwards and backwards in time.

    A pixel keeps the flow where the object is visible and takes the mean flow of its visible pixels
    where it is hidden (the common fate of SaVos, Eq. 12); after a frame without a visible pixel it
    stays. Evidence lives on only where the object is visible or another object covers it.
    """

    rule = CropRule(enlarge=2.0, margin=8)
    needs = frozenset({FLOW})
    window = 64
    overlap = 32

    def __init__(self, *, inside_others: bool = True) -> None:
        """Store the option.

        Args:
            inside_others: let hidden evidence live only under other objects' visible masks. False
                keeps it anywhere, for occluders that nobody has marked.
        """
        self.inside_others = inside_others

    def complete(self, clip: ObjectClip) -> Completion:
        """Return the union of both directions, see :class:`Completer`."""
        forward, backward = clip.flows
        later = self._carry(clip.visible, clip.others, forward)
        earlier = self._carry(clip.visible.flip(1), clip.others.flip(1), backward.flip(1)).flip(1)
        return Completion(torch.maximum(later, earlier)[None])

    def _carry(self, visible: Tensor, others: Tensor, flow: Tensor) -> Tensor:
        """Return the evidence of each frame from those before it (Tensor[N, T, h, w])."""
        allowed = others | visible if self.inside_others else torch.ones_like(visible)
        evidence = [visible[:, 0].float()]
        for t in range(1, visible.shape[1]):
            seen = visible[:, t - 1]
            mean = mean_motion(flow[:, t - 1], seen)[:, :, None, None]
            motion = torch.where(seen[:, None], flow[:, t - 1], mean)
            carried = mask_warp(evidence[-1][:, None], motion, mode="splat", normalize="average")[
                :, 0
            ]
            carried = torch.where(allowed[:, t], carried, 0.0)
            evidence.append(torch.maximum(carried, visible[:, t].float()))
        return torch.stack(evidence, dim=1)


@COMPLETER_REGISTRY.register()
def modal() -> Completer:
    """Make a :class:`ModalCompleter`."""
    return ModalCompleter()


@COMPLETER_REGISTRY.register()
def convex() -> Completer:
    """Make a :class:`ConvexCompleter`."""
    return ConvexCompleter()


@COMPLETER_REGISTRY.register()
def union(*, inside_others: bool = True) -> Completer:
    """Make a :class:`UnionCompleter`, see there."""
    return UnionCompleter(inside_others=inside_others)
