"""Completers without training: the visible mask, its convex hull, and the union over time.

"convex" and "convex_r" are baselines of the SaVos and Diffusion-VAS papers.
"""

from __future__ import annotations

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
from amodal2.modeling.completion.ordering import Order, all_in_front, convex_hull, hull_order
from amodal2.modeling.completion.pcnet import PCNetCompleter, PCNetM
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


class RefinedConvexCompleter(Completer):
    """Takes the convex hull where the object itself or something in front of it is seen.

    ConvexR of deocclusion; who is in front is read off the hulls, too, or told by PCNet-M.
    """

    def __init__(self, model: PCNetM | None = None) -> None:
        """Choose the order.

        Args:
            model: in evaluation mode, gives the order; None takes that of the hulls.
        """
        self._judge = None if model is None else PCNetCompleter(model)

    def in_front(self, masks: np.ndarray) -> Order:
        """Order the objects, see :class:`Completer`."""
        if self._judge is not None:
            return self._judge.in_front(masks)
        return all_in_front(hull_order(masks))

    def complete(self, clip: ObjectClip) -> Completion:
        """Return the hulls inside what is seen of object and occluders, see :class:`Completer`."""
        hulls = ConvexCompleter().complete(clip).amodal > 0
        return Completion((hulls & (clip.visible | clip.others)[None]).float())


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
def convex_r(*, model: PCNetM | None = None) -> Completer:
    """Make a :class:`RefinedConvexCompleter`, see there."""
    return RefinedConvexCompleter(model)


@COMPLETER_REGISTRY.register()
def union(*, inside_others: bool = True) -> Completer:
    """Make a :class:`UnionCompleter`, see there."""
    return UnionCompleter(inside_others=inside_others)
