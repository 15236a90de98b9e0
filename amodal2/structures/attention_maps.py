"""Where an amodal head looks, as data for pictures. Letters: N slots, T frames, h w key size."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class AttentionMaps:
    """The last attention layer of some slots in one clip (A2VIS, Fig. 8).

    The maps cover the network's input with its padding.

    Attributes:
        visible_prior (Tensor[N, h, w]): bool, the slots' visible masks united over the clip (VSPM);
            False everywhere where that is not in use.
        amodal_prior (Tensor[N, h, w]): bool, the same of the amodal masks before the layer (ASPM).
        weights (Tensor[N, T, h, w]): mean over the heads; a slot's sum is 1.
    """

    visible_prior: Tensor
    amodal_prior: Tensor
    weights: Tensor
