"""Named rules that sort objects by how much of them is hidden; every report names its rule.

The occlusion rate of an object is o = 1 - visible area / amodal area, its visibility v = 1 - o.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class OcclusionRule:
    """One source's bins.

    Args:
        source: who defined the bins.
        bins: name -> lowest and highest occlusion rate, both included.
        fp_policy: "all": a prediction that takes no object is a false positive in every bin.
            "ratio": only where its own visible-to-amodal ratio lies in the bin.
    """

    source: str
    bins: dict[str, tuple[float, float]]
    fp_policy: str = "all"

    def outside(self, rates: np.ndarray, name: str) -> np.ndarray:
        """Tell which objects lie outside a bin.

        Args:
            rates (ndarray[G]): occlusion rates.
            name: of the bin.

        Returns:
            ndarray[G]: bool.
        """
        low, high = self.bins[name]
        return (rates < low) | (rates > high)


def _by_visibility(**bins: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Turn bins of visibility into bins of occlusion; 1e-9 forgives the rounding of 1 - v."""
    return {name: (1 - high - 1e-9, 1 - low + 1e-9) for name, (low, high) in bins.items()}


OCCLUSION_RULES = {
    "cocoa": OcclusionRule(
        "COCOA amodalAPI", {"none": (0.0, 1e-5), "partial": (1e-5, 0.25), "heavy": (0.25, 1.0)}
    ),
    "tao_amodal": OcclusionRule(
        "TAO-Amodal, on the visibility",
        _by_visibility(heavy=(0.0, 0.1), partial=(0.1, 0.8), none=(0.8, 1.0), hp=(0.0, 0.8)),
    ),
    "vrsp": OcclusionRule(
        "VRSP and AISFormer (their columns APs, APm, APl)",
        _by_visibility(o15=(0.0, 0.85), o25=(0.0, 0.75), o40=(0.0, 0.6)),
        fp_policy="ratio",
    ),
    "a2vis": OcclusionRule(
        "A2VIS Table 9, the unit there is not stated",
        {"lt50": (0.0, 0.5), "gt50": (float(np.nextafter(0.5, 1.0)), 1.0)},
    ),
    "fishbowl": OcclusionRule(
        "SaVos FISHBOWL",
        {"o10_70": (float(np.nextafter(0.1, 1.0)), float(np.nextafter(0.7, 0.0)))},
    ),
}
"""Name of the rule -> rule."""
