"""The playroom: toys of twelve kinds fall onto a floor and each other before an orbiting camera.

The scene follows the videos of MOVi (Kubric): 24 frames, two seconds, many bodies in little space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amodal2.data.synthetic.cameras import Pinhole, axes_along
from amodal2.data.synthetic.scene import check_size
from amodal2.data.synthetic.solids import Vector, scaled
from amodal2.data.synthetic.toy_looks import Floor, Look, draw_look
from amodal2.data.synthetic.toys import TOYS
from amodal2.data.synthetic.tumbling import Body, Motion, tumble

_COUNT = (12, 21)
_LARGE = 3
"""How many of the toys that rest at the start are large enough to hide others."""
_LARGE_FACTOR, _FACTOR = (1.35, 1.75), (0.6, 1.05)
_FOCAL = 1.15
"""In image widths."""


@dataclass(frozen=True)
class Orbit:
    """The camera's path round the middle of the room, per frame.

    Attributes:
        places (ndarray[T, 3]): its centres.
        target (ndarray[3]): the point that it looks at.
    """

    places: Vector
    target: Vector


@dataclass(frozen=True)
class Lamp:
    """Light from far away.

    Attributes:
        direction (ndarray[3]): unit vector towards the light.
        strength (float): of the direct light, where 1 - strength comes from the sky.
    """

    direction: Vector
    strength: float


@dataclass(frozen=True)
class Playroom:
    """A video before rendering.

    Attributes:
        length (int): frames.
        bodies (list[Body]): shapes of the N toys.
        looks (list[Look]): their paint.
        category_ids (list[int]): their kinds.
        motion (Motion): where they are.
        orbit (Orbit): where the camera is.
        floor (Floor): the ground.
        lamp (Lamp): the light.
    """

    length: int
    bodies: list[Body]
    looks: list[Look]
    category_ids: list[int]
    motion: Motion
    orbit: Orbit
    floor: Floor
    lamp: Lamp

    def camera(self, t: int, height: int, width: int) -> Pinhole:
        """Return the camera of frame ``t`` for a picture of ``height`` rows, ``width`` columns."""
        place = self.orbit.places[t]
        axes = axes_along(self.orbit.target - place)
        return Pinhole(place, axes, _FOCAL * width, height, width)


def build_playroom(rng: np.random.Generator, frames: int, height: int, width: int) -> Playroom:
    """Make up one video.

    Args:
        rng (np.random.Generator): the only source of randomness.
        frames (int): number of frames, 12 per second.
        height (int): rows that it will be rendered with.
        width (int): columns.

    Returns:
        Playroom: every toy is annotated.

    Raises:
        MissingDependencyError: if MuJoCo is not installed.
        ValueError: if there is no frame or the picture is too small or too oblong.
    """
    check_size("build_playroom", frames, (height, width), 32, (0.5, 1.5))
    count = int(rng.integers(*_COUNT))
    rounds = [rng.permutation(len(TOYS)) for _ in range(2)]
    kinds = np.concatenate(rounds)[:count].tolist()
    bodies = [_grow(rng, TOYS[kind].build(rng), large=n < _LARGE) for n, kind in enumerate(kinds)]
    looks = [draw_look(rng) for _ in kinds]
    azimuth, height_angle = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.2)
    lamp = Lamp(_direction(azimuth, height_angle), rng.uniform(0.55, 0.72))
    return Playroom(
        frames,
        bodies,
        looks,
        [kind + 1 for kind in kinds],
        tumble(rng, bodies, frames),
        _orbit(rng, frames),
        Floor(rng),
        lamp,
    )


def _grow(rng: np.random.Generator, body: Body, *, large: bool) -> Body:
    """Return the body in a size of its own."""
    factor = rng.uniform(*(_LARGE_FACTOR if large else _FACTOR))
    return tuple(scaled(part, factor) for part in body)


def _direction(azimuth: float, elevation: float) -> Vector:
    """Return the unit vector (float64 [3]) at two angles in radians."""
    flat = np.cos(elevation)
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])


def _orbit(rng: np.random.Generator, frames: int) -> Orbit:
    """Draw a circular path of up to a fifth of a turn in two seconds, a little up or down."""
    distance = rng.uniform(4.3, 5.4)
    pace = rng.choice([-1, 1]) * rng.uniform(0.02, 0.055)
    climb, elevation = rng.uniform(-0.004, 0.004), rng.uniform(0.26, 0.6)
    start = rng.uniform(0, 2 * np.pi)
    target = np.array([*rng.uniform(-0.2, 0.2, 2), rng.uniform(0.35, 0.6)])
    places = [
        target + distance * _direction(start + pace * t, elevation + climb * t)
        for t in range(frames)
    ]
    return Orbit(np.array(places), target)
