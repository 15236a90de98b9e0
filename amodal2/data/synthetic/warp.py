"""How sprites bend: invertible maps between material and plane coordinates.

Material (u, v) is where a point lies in the sprite; plane (x, y) is where it lies in the upright,
unscaled body at one frame. Pictures need the inverse map, optical flow the forward one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from amodal2.data.synthetic.noise import FloatImage

_TAU = 2.0 * np.pi


class Deformation(Protocol):
    """A bijection per frame between material and plane coordinates."""

    @property
    def margin(self) -> float:
        """How far a point may move from its place at rest, in units."""
        ...

    def to_plane(self, u: FloatImage, v: FloatImage, t: int) -> tuple[FloatImage, FloatImage]:
        """Map material coordinates (float32 [...]) to the plane at frame ``t``."""
        ...

    def to_material(self, x: FloatImage, y: FloatImage, t: int) -> tuple[FloatImage, FloatImage]:
        """Map plane coordinates (float32 [...]) at frame ``t`` to the material."""
        ...


@dataclass(frozen=True)
class Rigid:
    """No deformation."""

    margin: float = 0.0

    def to_plane(self, u: FloatImage, v: FloatImage, t: int) -> tuple[FloatImage, FloatImage]:
        """Return the coordinates as they are."""
        return u, v

    def to_material(self, x: FloatImage, y: FloatImage, t: int) -> tuple[FloatImage, FloatImage]:
        """Return the coordinates as they are."""
        return x, y


@dataclass(frozen=True)
class Sway:
    """A plant that stands on y = 0 and sways, more at its top than at its foot.

    Attributes:
        reach (float): swing of the top, in plant heights.
        frequency (float): cycles per frame.
        lag (float): how far, in radians, the top is behind the foot.
        phase (float): in radians at frame 0.
    """

    reach: float
    frequency: float
    lag: float
    phase: float

    @property
    def margin(self) -> float:
        """Largest shift, in plant heights."""
        return self.reach * 1.2

    def _shift(self, y: FloatImage, t: int) -> FloatImage:
        h = np.clip(-y, 0.0, 1.1)
        turn = np.float32(_TAU * self.frequency * t + self.phase)
        return np.float32(self.reach) * h * np.sqrt(h) * np.sin(turn - np.float32(self.lag) * h)

    def to_plane(self, u: FloatImage, v: FloatImage, t: int) -> tuple[FloatImage, FloatImage]:
        """Shift rows sideways."""
        return u + self._shift(v, t), v

    def to_material(self, x: FloatImage, y: FloatImage, t: int) -> tuple[FloatImage, FloatImage]:
        """Shift rows back."""
        return x - self._shift(y, t), y


@dataclass(frozen=True)
class Swim:
    """A fish's body: a wave that travels to the tail, a swinging tail and rippling fin edges.

    In the plane the fish looks to +x and its middle (u = 0.5) is at x = 0. The steps from material
    to plane: fin edges lag (u depends on v), the wave lifts v depending on u, and the part behind
    ``hinge`` is foreshortened as the tail swings out of the picture plane.

    Attributes:
        amplitude (float): of the wave at the tail, in body lengths.
        wavelength (float): in body lengths.
        frequency (float): beats per frame.
        phase (float): in radians at frame 0.
        swing (float): largest foreshortening of the tail, 0..1.
        ripple (float): lag of the fin edges per unit of distance from the body.
        hinge (float): u where the tail starts.
    """

    amplitude: float
    wavelength: float
    frequency: float
    phase: float
    swing: float
    ripple: float
    hinge: float = 0.68

    @property
    def margin(self) -> float:
        """Largest shift, in body lengths."""
        return 1.6 * self.amplitude + 0.4 * self.ripple

    def _turn(self, t: int) -> float:
        return _TAU * self.frequency * t + self.phase

    def _lag(self, v: FloatImage, t: int) -> FloatImage:
        outside = np.maximum(np.abs(v) - np.float32(0.1), 0.0)
        wave = np.sin(np.float32(self._turn(t) + 2.2) - np.float32(5.0) * v)
        return np.float32(self.ripple) * outside * wave

    def _lift(self, u: FloatImage, t: int) -> FloatImage:
        w = np.clip(u, -0.1, 1.15)
        envelope = np.float32(self.amplitude) * (np.float32(0.12) + w * w)
        return envelope * np.sin(np.float32(_TAU / self.wavelength) * w - np.float32(self._turn(t)))

    def _shrink(self, t: int) -> np.float32:
        return np.float32(1.0 - self.swing * (0.5 + 0.5 * np.cos(2.0 * self._turn(t) + 1.0)))

    def to_plane(self, u: FloatImage, v: FloatImage, t: int) -> tuple[FloatImage, FloatImage]:
        """Bend the body as it is at frame ``t``."""
        bent = u + self._lag(v, t)
        y = v + self._lift(bent, t)
        hinge = np.float32(self.hinge)
        behind = np.where(bent > hinge, hinge + (bent - hinge) * self._shrink(t), bent)
        return np.float32(0.5) - behind, y

    def to_material(self, x: FloatImage, y: FloatImage, t: int) -> tuple[FloatImage, FloatImage]:
        """Straighten the body as it is at frame ``t``."""
        behind = np.float32(0.5) - x
        hinge = np.float32(self.hinge)
        bent = np.where(behind > hinge, hinge + (behind - hinge) / self._shrink(t), behind)
        v = y - self._lift(bent, t)
        return bent - self._lag(v, t), v
