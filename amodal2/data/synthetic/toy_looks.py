"""What toys and the floor are painted with: solid patterns in the body frame, a tiled floor."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from amodal2.data.synthetic.noise import FloatImage, tileable_noise
from amodal2.data.synthetic.solids import Vector

PATTERNS = ("plain", "stripes", "checks", "spots", "rings", "marble")
_TEXELS = 512
_TILE_METRES = 6.0


@dataclass(frozen=True)
class Look:
    """The paint of one toy.

    Attributes:
        pattern (str): one of ``PATTERNS``.
        colours (ndarray[2, 3]): RGB 0..1 that the pattern mixes.
        axes (ndarray[3, 3]): rows are the directions of the pattern in the body frame.
        frequency (float): radians per metre.
        gloss (float): strength of the highlight, 0..1.
    """

    pattern: str
    colours: Vector
    axes: Vector
    frequency: float
    gloss: float

    def paint(self, points: Vector) -> Vector:
        """Return the colours (float64 [P, 3]) at points of the body frame (float64 [3, P])."""
        waves = [
            self.frequency * (axis[0] * points[0] + axis[1] * points[1] + axis[2] * points[2])
            for axis in self.axes
        ]
        share = np.clip(0.5 + 3.0 * self._wave(*waves), 0.0, 1.0)
        return self.colours[0] + share[:, None] * (self.colours[1] - self.colours[0])

    def _wave(self, u: Vector, v: Vector, w: Vector) -> Vector:
        """Return the pattern, positive where the second colour shows."""
        if self.pattern == "stripes":
            return np.sin(u)
        if self.pattern == "checks":
            return np.sin(u) * np.sin(v) * np.sin(w)
        if self.pattern == "spots":
            return np.sin(1.3 * u) + np.sin(1.3 * v) + np.sin(1.3 * w) - 0.9
        if self.pattern == "rings":
            return np.sin(1.6 * np.sqrt(u * u + v * v))
        if self.pattern == "marble":
            return 0.3 * np.sin(u + 2.2 * np.sin(0.9 * v) + 1.7 * np.sin(0.7 * w + 0.5))
        return np.full_like(u, -1.0)


def draw_look(rng: np.random.Generator) -> Look:
    """Make up the paint of a toy."""
    first = rng.random()
    second = first + rng.uniform(0.2, 0.8)
    colours = [
        _colour(hue, rng.uniform(0.35, 0.9), rng.uniform(low, high))
        for hue, low, high in ((first, 0.55, 0.95), (second, 0.25, 0.95))
    ]
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
    gloss = float(rng.choice([0.0, 0.25, 0.6]))
    return Look(pattern, np.array(colours), axes, rng.uniform(9.0, 20.0), gloss)


class Floor:
    """An endless floor of planks or tiles that fades into the sky's colour far away.

    Attributes:
        sky (ndarray[3]): RGB 0..1 of the sky at the horizon.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw a texture of ``_TILE_METRES`` per side that is laid again and again."""
        hues = rng.random(2)
        base = _colour(hues[0], rng.uniform(0.08, 0.4), rng.uniform(0.35, 0.75))
        self.sky = _colour(hues[1], rng.uniform(0.05, 0.35), rng.uniform(0.55, 0.9))
        noise = sum(2.0**-k * (tileable_noise(rng, _TEXELS, 8 << k) - 0.5) for k in range(4))
        rows, columns = int(rng.choice([4, 8])), int(rng.choice([4, 8, 16]))
        cells = rng.uniform(-1, 1, (rows, columns))
        tiles = np.kron(cells, np.ones((_TEXELS // rows, _TEXELS // columns)))
        value = 1.0 + rng.uniform(0.1, 0.35) * noise + rng.uniform(0.03, 0.2) * tiles
        texture = np.clip(base * value[..., None], 0.02, 0.95).astype(np.float32)
        texture[:: _TEXELS // rows] *= 0.75
        texture[:, :: _TEXELS // columns] *= 0.75
        self._levels = [texture]
        while len(self._levels) < 4:
            side = self._levels[-1].shape[0] // 2
            small = cv2.resize(self._levels[-1], (side, side), interpolation=cv2.INTER_AREA)
            self._levels.append(small)

    def paint(self, x: Vector, y: Vector, depth: Vector, pixel: float) -> FloatImage:
        """Return colours of the floor.

        Args:
            x (float64 [P]): place in metres.
            y (float64 [P]): place in metres.
            depth (float64 [P]): in metres, for the choice of the resolution.
            pixel (float): metres that a pixel covers at a depth of one metre.

        Returns:
            float32 [P, 3]: RGB.
        """
        texel = _TILE_METRES / _TEXELS
        level = np.clip(np.log2(np.maximum(1.4 * depth * pixel / texel, 1.0)).round(), 0, 3)
        colours = np.empty((len(x), 3), np.float32)
        for number, texture in enumerate(self._levels):
            here = np.flatnonzero(level == number)
            if here.size:
                colours[here] = _look_up(texture, x[here], y[here])
        return colours


def _look_up(texture: FloatImage, x: Vector, y: Vector) -> FloatImage:
    """Read a texture that repeats every ``_TILE_METRES``, between its texels (float32 [P, 3])."""
    side = texture.shape[0]  # a power of two
    u, v = (c * (side / _TILE_METRES) - 0.5 for c in (x, y))
    low_u, low_v = np.floor(u), np.floor(v)
    share_u, share_v = ((a - b).astype(np.float32)[:, None] for a, b in ((u, low_u), (v, low_v)))
    left, upper = (low.astype(np.int64) & (side - 1) for low in (low_u, low_v))
    right, lower = (left + 1) & (side - 1), (upper + 1) & (side - 1)
    above = texture[upper, left] * (1 - share_u) + texture[upper, right] * share_u
    below = texture[lower, left] * (1 - share_u) + texture[lower, right] * share_u
    return above * (1 - share_v) + below * share_v


def _colour(hue: float, saturation: float, value: float) -> Vector:
    """Return RGB 0..1 (float64 [3]) of a hue in turns."""
    hsv = np.array([[[hue % 1.0 * 360.0, saturation, value]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)
