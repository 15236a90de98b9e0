"""Random changes of visible masks, so that a completion system learns to live with a detector's.

The official augmentation of C2F-Seg: blurring, or repeated dilation or erosion. Shapes: S side of a
square patch in pixels; sizes of kernels are for S = 256 and scale with S.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_FULL = 256
_BLUR_SIZE, _BLUR_SIGMA = 35, 11.0
_KERNEL = (5, 13)
_PASSES = 4


@dataclass(frozen=True)
class MaskNoise:
    """Probabilities of the changes.

    Attributes:
        blur (float): of blurring and cutting at one half.
        morphology (float): of one to four dilations or erosions.
        dilate (float): of dilating, given morphology; else all passes erode.
        blur_between (float): of blurring after every pass, given morphology.
    """

    blur: float
    morphology: float
    dilate: float
    blur_between: float

    def apply(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change a mask.

        Args:
            mask (ndarray[S, S]): bool.
            rng: source of randomness.

        Returns:
            ndarray[S, S]: bool; may be empty where the mask was small.
        """
        drawn = float(rng.random())
        if drawn > self.blur + self.morphology:
            return mask
        scale = mask.shape[0] / _FULL
        values = mask.astype(np.float32)
        if drawn <= self.blur:
            return _blur(values, scale) > 0.5
        passes = int(rng.integers(1, _PASSES + 1))
        change = cv2.dilate if rng.random() <= self.dilate else cv2.erode
        between = rng.random() <= self.blur_between
        for _ in range(passes):
            sides = rng.integers(_KERNEL[0], _KERNEL[1] + 1, size=2) * scale
            height, width = (max(1, round(float(side))) for side in sides)
            values = change(values, np.ones((height, width), np.uint8))
            if between:
                values = _blur(values, scale)
        return values > 0.5


NOISES = {
    "none": None,
    "kins": MaskNoise(0.2, 0.4, 0.55, 0.1),
    "cocoa": MaskNoise(0.2, 0.7, 0.6, 0.2),
    "video": MaskNoise(0.1, 0.5, 0.5, 0.1),
}
"""Names of the official settings; "video" is that of FISHBOWL and MOViD-A."""


def mask_noise(name: str) -> MaskNoise | None:
    """Return a setting of :data:`NOISES`; None leaves masks alone.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in NOISES:
        raise ValueError(f"mask_noise: expected one of {sorted(NOISES)}, got {name!r}")
    return NOISES[name]


def _blur(values: np.ndarray, scale: float) -> np.ndarray:
    size = 2 * round(_BLUR_SIZE * scale / 2 - 0.5) + 1
    return cv2.GaussianBlur(values, (size, size), _BLUR_SIGMA * scale)
