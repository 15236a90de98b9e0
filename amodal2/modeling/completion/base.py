"""The interface of everything that completes masks, and the registry of completers.

A completer sees N objects through the T frames of a window of the video, each cut out as its crop
rule says (:mod:`crops`), and returns probabilities on the same grid. Reading, cutting, pasting,
thresholding and the rules about frames belong to :mod:`video`.

Letters: K samples, N objects, T frames, (h, w) size of the cut-outs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fvcore.common.registry import Registry
from torch import Tensor

from amodal2.modeling.completion.crops import CropRule

COMPLETER_REGISTRY = Registry("COMPLETER")
COMPLETER_REGISTRY.__doc__ = """
Functions that make a :class:`Completer` from keyword arguments; their names are what the tools'
option ``--completer`` takes.
"""

FRAMES, FLOW, DEPTH = "frames", "flow", "depth"


@dataclass
class ObjectClip:
    """N objects through T frames, cut out of the video; tensors on one device.

    Attributes:
        visible (Tensor[N, T, h, w]): bool, the visible masks.
        others (Tensor[N, T, h, w]): bool, the union of the visible masks of all other objects, of
            those in front for completers that know them (``in_front``).
        windows (Tensor[N, T, 4]): float (top, left, bottom, right), the region of the frame that
            the cut-out shows, in pixels.
        frames (Tensor[N, T, 3, h, w] | None): float RGB in [0, 1]; None if not asked for.
        forward_flow (Tensor[N, T, 2, h, w] | None): float (x, y) to the next frame in pixels of the
            cut-out; 0 in the last frame of the video. None if not asked for.
        backward_flow (Tensor[N, T, 2, h, w] | None): the same to the frame before.
        depth (Tensor[N, T, h, w] | None): float; None if not asked for.
    """

    visible: Tensor
    others: Tensor
    windows: Tensor
    frames: Tensor | None = None
    forward_flow: Tensor | None = None
    backward_flow: Tensor | None = None
    depth: Tensor | None = None

    @property
    def flows(self) -> tuple[Tensor, Tensor]:
        """Forward and backward flow of a completer that has asked for them."""
        assert self.forward_flow is not None, "only completers with FLOW in needs read it"
        assert self.backward_flow is not None, "both directions come together"
        return self.forward_flow, self.backward_flow


@dataclass
class Completion:
    """What a completer finds.

    Attributes:
        amodal (Tensor[K, N, T, h, w]): probability of the whole object, finite.
        content (Tensor[K, N, T, 3, h, w] | None): RGB in [0, 1] of the whole object, for completers
            that paint it.
    """

    amodal: Tensor
    content: Tensor | None = None

    def check(self, clip: ObjectClip, name: str) -> None:
        """Check shape and values.

        Args:
            clip: what the completer was given.
            name: of the completer, for the message.

        Raises:
            ValueError: if the shape is another one or a value is not finite.
        """
        expected = clip.visible.shape
        if self.amodal.dim() != 5 or self.amodal.shape[1:] != expected:
            raise ValueError(
                f"complete_video: expected amodal masks [K, {', '.join(map(str, expected))}] from "
                f"{name}, got shape {tuple(self.amodal.shape)}"
            )
        if not torch.isfinite(self.amodal).all():
            raise ValueError(
                f"complete_video: expected finite probabilities from {name}, got others; are its "
                "weights damaged?"
            )


class Completer(ABC):
    """Turns visible masks into amodal ones.

    Attributes:
        rule (CropRule): how objects are cut out.
        needs (frozenset[str]): of ``FRAMES``, ``FLOW`` and ``DEPTH``.
        window (int): frames that it sees at once.
        overlap (int): frames that neighbouring windows share; each frame counts in the window where
            it is farther from the ends.
        threshold (float): probability from which a pixel belongs to the object.
    """

    rule: CropRule = CropRule()
    needs: frozenset[str] = frozenset()
    window: int = 32
    overlap: int = 0
    threshold: float = 0.5

    def in_front(self, masks: np.ndarray) -> np.ndarray | None:
        """Tell which objects lie in front of which in one frame.

        Args:
            masks (ndarray[M, H, W]): bool, the visible masks of the objects that are seen in it.

        Returns:
            ndarray[M, M] | None: bool, entry (i, j) for j in front of i; None if all other objects
            count, as here.
        """
        return None

    @abstractmethod
    def complete(self, clip: ObjectClip) -> Completion:
        """Complete the masks of N objects.

        Args:
            clip: the objects; each is visible in at least one frame. Without a size in its crop
                rule N is 1.

        Returns:
            Completion: on the grid of the clip.
        """


def build_completer(name: str, **options: Any) -> Completer:
    """Make a completer.

    Args:
        name: one of ``COMPLETER_REGISTRY``.
        options: of that completer.

    Returns:
        Completer: ready to use.

    Raises:
        ValueError: if there is no such completer, or it has no such option.
    """
    if name not in COMPLETER_REGISTRY:
        known = sorted(key for key, _ in COMPLETER_REGISTRY)
        raise ValueError(f"build_completer: expected one of {known}, got {name!r}")
    try:
        return COMPLETER_REGISTRY.get(name)(**options)
    except TypeError as e:
        raise ValueError(f"build_completer: expected options of {name}, got {options}: {e}") from e
