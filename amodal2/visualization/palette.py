"""One steady colour per track id, neighbours in id as different as possible.

Colours are chosen in the OKLab space, where distances follow perception (B. Ottosson, "A perceptual
color space for image processing", 2020).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Color: TypeAlias = tuple[int, int, int]  # RGB, 0 to 255

PALETTE_SIZE = 48
"""Number of different colours; higher ids begin again."""

_FIRST = (255, 166, 0)
_LIGHTNESS = (0.58, 0.88)  # readable on dark and on bright pictures
_CHROMA = (0.11, 0.25)  # neither grey nor glaring
_STEPS = 14  # candidate values per channel


def color_of(track_id: int) -> Color:
    """Return the colour of a track, the same in every frame and every run.

    Args:
        track_id (int): id from 1.

    Returns:
        Color: RGB.
    """
    return palette()[(track_id - 1) % PALETTE_SIZE]


@lru_cache(maxsize=1)
def palette() -> tuple[Color, ...]:
    """Return all colours; each is as far as possible from those before it.

    Returns:
        tuple[Color, ...]: ``PALETTE_SIZE`` RGB colours.
    """
    steps = np.linspace(0, 255, _STEPS).round()
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = srgb_to_oklab(candidates)
    light = (lab[:, 0] >= _LIGHTNESS[0]) & (lab[:, 0] <= _LIGHTNESS[1])
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    keep = light & (chroma >= _CHROMA[0]) & (chroma <= _CHROMA[1])
    candidates, lab = candidates[keep], lab[keep]
    chosen = [np.array(_FIRST, float)]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < PALETTE_SIZE:
        newest = srgb_to_oklab(chosen[-1][None])
        distance = np.minimum(distance, np.linalg.norm(lab - newest, axis=1))
        chosen.append(candidates[distance.argmax()])
    return tuple((int(r), int(g), int(b)) for r, g, b in chosen)


def srgb_to_oklab(colors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert sRGB to OKLab.

    Args:
        colors (ndarray[M, 3]): RGB, 0 to 255.

    Returns:
        ndarray[M, 3]: lightness in [0, 1], then the two colour axes (about -0.4 to 0.4).
    """
    value = colors / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    lab: NDArray[np.float64] = np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
    return lab


def text_color(background: Color) -> Color:
    """Return black or white, whichever is easier to read on ``background``.

    Args:
        background (Color): RGB.

    Returns:
        Color: RGB.
    """
    lightness = srgb_to_oklab(np.array([background], float))[0, 0]
    return (0, 0, 0) if lightness > 0.62 else (255, 255, 255)
