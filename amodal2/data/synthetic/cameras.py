"""Cameras of three-dimensional scenes: a pinhole for the picture, parallel rays for a lamp.

The world has z upwards, lengths in metres. Pixel centres lie at integer coordinates (x, y), origin
at the centre of the top-left pixel. Dimensions: P rays or points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from amodal2.data.synthetic.solids import Vector

Box = tuple[int, int, int, int]

_STEEP = 1.5
"""Radians from the optical axis beyond which a border is not told."""


def turn(matrix: Vector, vectors: Vector) -> Vector:
    """Multiply a matrix (float64 [3, 3]) with vectors (float64 [3] or [3, P]).

    Written out, since the library's product rounds differently from processor to processor.
    """
    turned = np.empty_like(vectors)
    for k, row in enumerate(matrix):
        turned[k] = row[0] * vectors[0] + row[1] * vectors[1] + row[2] * vectors[2]
    return turned


def axes_along(forward: Vector) -> Vector:
    """Return right, down and forward (rows of float64 [3, 3]) of a view that is not vertical."""
    ahead = forward / np.sqrt((forward**2).sum())
    right = np.array([ahead[1], -ahead[0], 0.0])
    right /= np.sqrt((right**2).sum())
    return np.stack([right, np.cross(ahead, right), ahead])


@dataclass(frozen=True)
class Pinhole:
    """A camera whose depth is measured along its optical axis.

    Attributes:
        place (ndarray[3]): its centre.
        axes (ndarray[3, 3]): rows right, down, forward.
        focal (float): focal length in pixels.
        height (int): rows of the picture.
        width (int): columns.
    """

    place: Vector
    axes: Vector
    focal: float
    height: int
    width: int

    def rays(self, x: Vector, y: Vector) -> tuple[Vector, Vector]:
        """Return origin (float64 [3]) and directions ([3, P], one metre of depth long)."""
        across = (x - (self.width - 1) / 2) / self.focal
        down = (y - (self.height - 1) / 2) / self.focal
        return self.place, turn(self.axes.T, np.stack([across, down, np.ones_like(across)]))

    def project(self, points: Vector) -> Vector:
        """Map points (float64 [3, P]) in front of the camera to pixels (x, y) and depth."""
        across, down, depth = turn(self.axes, points - self.place[:, None])
        scale = self.focal / depth
        return np.stack(
            [
                across * scale + (self.width - 1) / 2,
                down * scale + (self.height - 1) / 2,
                depth,
            ]
        )

    def box(self, centre: Vector, radius: float) -> Box:
        """Return the pixels (x0, y0, x1, y1; ends excluded) that a ball can be seen in."""
        across, down, depth = turn(self.axes, centre - self.place).tolist()
        borders = []
        for offset, size in ((across, self.width), (down, self.height)):
            distance = math.hypot(offset, depth)
            if depth <= 0 or distance <= radius:
                return (0, 0, self.width, self.height) if depth > -radius else (0, 0, 0, 0)
            angle, half = math.atan2(offset, depth), math.asin(radius / distance)
            ends = (max(angle - half, -_STEEP), min(angle + half, _STEEP))
            first, last = (math.tan(end) * self.focal + (size - 1) / 2 for end in ends)
            borders.append((first, last))
        return _cut(borders, self.width, self.height)


@dataclass(frozen=True)
class ParallelRays:
    """Light from far away, as a square picture of the world seen along it.

    Attributes:
        axes (ndarray[3, 3]): rows right, down, and the direction of the light.
        reach (float): half of the side of the square around the origin.
        size (int): pixels per side.
    """

    axes: Vector
    reach: float
    size: int

    @property
    def _scale(self) -> float:
        """Pixels per metre."""
        return self.size / (2 * self.reach)

    def rays(self, x: Vector, y: Vector) -> tuple[Vector, Vector]:
        """Return origins (float64 [3, P]) on a plane before the world and the direction ([3])."""
        across = (x - (self.size - 1) / 2) / self._scale
        down = (y - (self.size - 1) / 2) / self._scale
        back = np.full_like(across, -4 * self.reach)
        return turn(self.axes.T, np.stack([across, down, back])), self.axes[2]

    def project(self, points: Vector) -> Vector:
        """Map points (float64 [3, P]) to pixels (x, y) and distance along the light."""
        across, down, depth = turn(self.axes, points)
        middle = (self.size - 1) / 2
        return np.stack(
            [across * self._scale + middle, down * self._scale + middle, depth + 4 * self.reach]
        )

    def box(self, centre: Vector, radius: float) -> Box:
        """Return the pixels (x0, y0, x1, y1; ends excluded) that a ball can be seen in."""
        x, y, _ = self.project(centre).tolist()
        half = radius * self._scale
        return _cut([(x - half, x + half), (y - half, y + half)], self.size, self.size)


def _cut(borders: list[tuple[float, float]], width: int, height: int) -> Box:
    """Turn real borders ((x0, x1), (y0, y1)) into a box inside the picture."""
    (x0, x1), (y0, y1) = borders
    left, right = min(max(math.floor(x0), 0), width), min(max(math.ceil(x1) + 1, 0), width)
    top, bottom = min(max(math.floor(y0), 0), height), min(max(math.ceil(y1) + 1, 0), height)
    return left, top, right, bottom
