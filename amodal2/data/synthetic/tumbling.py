"""Rigid bodies that fall onto a floor and each other, simulated by MuJoCo (extra "physics").

Half of the bodies have come to rest, or nearly so, when the video begins; the others are thrown at
them. The floor is the plane z = 0, lengths are in metres. Dimensions: N bodies, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.solids import Part, Vector
from amodal2.utils.optional import require

Body = tuple[Part, ...]

FRAMES_PER_SECOND = 12
_STEPS_PER_FRAME = 20
_SETTLING = 300
"""Steps before the first frame, in which the first half falls."""
_AWAY = 1000.0
"""Height at which the others wait meanwhile."""
_SPREAD = 1.55
_TRIES = 400


@dataclass(frozen=True)
class Motion:
    """Where the bodies are in every frame.

    Attributes:
        positions (ndarray[T, N, 3]): origins of the body frames in the world.
        rotations (ndarray[T, N, 3, 3]): matrices from the body frames to the world.
        touches (ndarray[N, N]): bool, which bodies touch each other at some time after the first
            frame.
    """

    positions: Vector
    rotations: Vector
    touches: npt.NDArray[np.bool_]


def tumble(rng: np.random.Generator, bodies: list[Body], frames: int) -> Motion:
    """Let bodies fall, collide and roll.

    Args:
        rng (np.random.Generator): source of places, turns and speeds.
        bodies (list[Body]): their parts.
        frames (int): T, ``FRAMES_PER_SECOND`` of them show a second.

    Returns:
        Motion: of the bodies in their order.

    Raises:
        MissingDependencyError: if MuJoCo is not installed.
    """
    engine = require("mujoco", "physics")
    model = engine.MjModel.from_xml_string(_describe(bodies))
    data = engine.MjData(model)
    count = len(bodies)
    reach = np.array([max(part.reach for part in body) for body in bodies])
    resting = np.arange(count) < (count + 1) // 2
    poses, speeds = data.qpos.reshape(count, 7), data.qvel.reshape(count, 6)
    poses[:, :3] = _scatter(rng, reach, np.where(resting, 0.0, 1.1), np.where(resting, 1.8, 3.0))
    poses[:, 3:] = _quaternions(rng, count)
    later = poses[~resting].copy()
    poses[~resting, 2] += _AWAY
    for _ in range(_SETTLING):
        engine.mj_step(model, data)
    poses[~resting] = later
    speeds[~resting] = _throws(rng, later)
    return _record(engine, model, data, frames, count)


def _record(engine: ModuleType, model: Any, data: Any, frames: int, count: int) -> Motion:
    """Step through the frames."""
    positions, rotations = np.empty((frames, count, 3)), np.empty((frames, count, 3, 3))
    touches = np.zeros((count + 1, count + 1), bool)
    for t in range(frames):
        engine.mj_kinematics(model, data)
        positions[t] = data.xpos[1:]
        rotations[t] = data.xmat[1:].reshape(count, 3, 3)
        for _ in range(_STEPS_PER_FRAME if t + 1 < frames else 0):
            engine.mj_step(model, data)
            owners = model.geom_bodyid[data.contact.geom]
            touches[owners[:, 0], owners[:, 1]] = True
    return Motion(positions, rotations, (touches | touches.T)[1:, 1:])


def _scatter(rng: np.random.Generator, reach: Vector, low: Vector, high: Vector) -> Vector:
    """Draw places (float64 [N, 3]) near the origin where bodies of these sizes do not touch."""
    places: list[Vector] = []
    for index, size in enumerate(reach):
        spread, height = _SPREAD, float(high[index])
        for _ in range(_TRIES):
            radius, turn = spread * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
            z = size + rng.uniform(low[index], height)
            place = np.array([radius * np.cos(turn), radius * np.sin(turn), z])
            gaps = [
                np.linalg.norm(place - p) - size - r for p, r in zip(places, reach, strict=False)
            ]
            if min(gaps, default=1.0) > 0:
                break
            spread, height = spread * 1.003, height * 1.003
        places.append(place)
    return np.array(places)


def _quaternions(rng: np.random.Generator, count: int) -> Vector:
    """Draw orientations (float64 [count, 4]), all equally likely."""
    turns = rng.normal(size=(count, 4))
    return turns / np.sqrt((turns**2).sum(axis=1, keepdims=True))


def _throws(rng: np.random.Generator, poses: Vector) -> Vector:
    """Draw speeds (float64 [K, 6], m/s and rad/s) towards the middle for bodies at ``poses``."""
    speeds = np.zeros((len(poses), 6))
    pace = rng.uniform(0.3, 1.4, (len(poses), 1))
    speeds[:, :2] = -pace * poses[:, :2] + rng.normal(0.0, 0.4, (len(poses), 2))
    speeds[:, 2] = rng.uniform(-1.5, 1.0, len(poses))
    speeds[:, 3:] = rng.normal(0.0, 3.0, (len(poses), 3))
    return speeds


def _describe(bodies: list[Body]) -> str:
    """Write the model in the engine's format."""
    meshes, worlds = [], []
    for n, body in enumerate(bodies):
        geoms = []
        for k, part in enumerate(body):
            if part.kind == "mesh":
                meshes.append(f'<mesh name="m{n}_{k}" vertex="{_numbers(part.vertices)}"/>')
                geoms.append(f'<geom type="mesh" mesh="m{n}_{k}"/>')
            else:
                geoms.append(_plain_geom(part))
        joint = '<joint type="free" damping="0.02"/>'
        worlds.append(f"<body>{joint}{''.join(geoms)}</body>")
    return (
        f'<mujoco><option timestep="{1 / (FRAMES_PER_SECOND * _STEPS_PER_FRAME)}"/>'
        '<default><geom density="20" condim="4" friction="0.7 0.02 0.001" solref="0.012 0.35"/>'
        f"</default><asset>{''.join(meshes)}</asset><worldbody>"
        f'<geom type="plane" size="50 50 1"/>{"".join(worlds)}</worldbody></mujoco>'
    )


def _plain_geom(part: Part) -> str:
    """Write a part that is no mesh."""
    kind, turn = part.kind, ""
    if kind == "ellipsoid" and len(set(part.size)) == 1:
        kind = "sphere"
    if kind == "cylinder":
        turn = f' zaxis="{_numbers(np.eye(3)[part.axis])}"'
    place, size = _numbers(part.centre), _numbers(np.array(part.size))
    return f'<geom type="{kind}" pos="{place}" size="{size}"{turn}/>'


def _numbers(values: Vector) -> str:
    """Write numbers with all their digits."""
    return " ".join(repr(float(value)) for value in values.ravel())
