"""Random brightness, contrast and saturation as one linear colour map per sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclass(frozen=True)
class ColorChange:
    """Factors of a colour change; 1 changes nothing.

    Attributes:
        brightness (float): factor on all values.
        contrast (float): factor on the distance to the sample's mean luma.
        saturation (float): factor on the distance to the pixel's own luma.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def apply_frames(self, frames: np.ndarray) -> np.ndarray:
        """Change the colours of all frames alike.

        The three steps are linear in the pixel, so they are one 3x3 matrix and an offset; values
        are clipped to [0, 255] and rounded once at the end.

        Args:
            frames (ndarray[T, H, W, 3]): uint8 RGB.

        Returns:
            ndarray[T, H, W, 3]: uint8 RGB.
        """
        if frames.size == 0 or self == ColorChange():
            return frames
        mean_luma = float(frames[:, ::4, ::4].reshape(-1, 3).mean(axis=0) @ _LUMA)
        saturate = self.saturation * np.eye(3) + (1.0 - self.saturation) * _LUMA[None, :]
        matrix = (self.brightness * self.contrast * saturate).astype(np.float32)
        offset = np.float32((1.0 - self.contrast) * self.brightness * mean_luma + 0.5)
        changed = frames.reshape(-1, 3).astype(np.float32) @ matrix.T
        changed += offset
        np.clip(changed, 0.0, 255.0, out=changed)
        return changed.astype(np.uint8).reshape(frames.shape)


def random_color_change(rng: np.random.Generator, strength: float) -> ColorChange:
    """Draw a colour change with every factor uniform in [1 - strength, 1 + strength].

    Args:
        rng: source of randomness; three numbers are drawn whatever the strength.
        strength: in [0, 1]; 0 changes nothing.

    Returns:
        ColorChange: the change, to be applied to all frames of a sample.

    Raises:
        ValueError: if the strength is outside [0, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"random_color_change: expected a strength in [0, 1], got {strength}")
    brightness, contrast, saturation = 1.0 + strength * rng.uniform(-1.0, 1.0, size=3)
    return ColorChange(float(brightness), float(contrast), float(saturation))
