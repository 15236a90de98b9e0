"""Playrooms that are put together by hand, and the reason to skip what needs the simulator."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from amodal2.data.synthetic.playroom import Lamp, Orbit, Playroom
from amodal2.data.synthetic.toy_looks import Floor, Look
from amodal2.data.synthetic.tumbling import Motion

needs_physics = pytest.mark.skipif(
    importlib.util.find_spec("mujoco") is None,
    reason="MuJoCo is not installed: pip install 'amodal2[physics]'",
)
"""Marks tests of simulated motion."""


def rotation(axis, angle):
    """Turn about one of the axes 0, 1, 2 by ``angle`` radians."""
    one, two = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[one, one] = matrix[two, two] = np.cos(angle)
    matrix[one, two], matrix[two, one] = -np.sin(angle), np.sin(angle)
    return matrix


def make_playroom(bodies, positions, rotations=None, *, places=None, target=(0, 0, 0.5)):
    """Put bodies at positions [T, N, 3] before a camera 5 m away along -y (``places`` [T, 3])."""
    positions = np.asarray(positions, float)
    frames, count = positions.shape[:2]
    if rotations is None:
        rotations = np.broadcast_to(np.eye(3), (frames, count, 3, 3))
    if places is None:
        places = np.broadcast_to((0.0, -5.0, 0.5), (frames, 3))
    rng = np.random.default_rng(0)
    looks = [
        Look("checks", rng.random((2, 3)), np.eye(3), 6.0, 0.3 * (n % 2)) for n in range(count)
    ]
    touches = np.zeros((count, count), bool)
    return Playroom(
        frames,
        bodies,
        looks,
        list(range(1, count + 1)),
        Motion(positions, np.asarray(rotations, float), touches),
        Orbit(np.asarray(places, float), np.asarray(target, float)),
        Floor(rng),
        Lamp(np.array([0.0, -0.6, 0.8]), 0.6),
    )
