"""Smooth swimming paths through given points, with turns that foreshorten the fish."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.scene import Trajectory


@dataclass(frozen=True)
class Swimmer:
    """How one fish swims; lengths in image widths.

    Attributes:
        length (float): body length at depth 0.5.
        girth (float): thickness seen from the front, in body lengths.
        speed (float): per frame.
        surge (tuple[float, float, float]): relative strength, cycles per frame and phase of the
            change of speed.
        heave (tuple[float, float, float]): amplitude, cycles per frame and phase of rise and fall.
        turn_frames (float): frames that a turn takes.
        borders (tuple[float, float]): x of the middle at which it turns back, left and right.
        depth (float): at the anchor, 0..1.
        depth_step (float): change of depth by a turn.
    """

    length: float
    girth: float
    speed: float
    surge: tuple[float, float, float]
    heave: tuple[float, float, float]
    turn_frames: float
    borders: tuple[float, float]
    depth: float
    depth_step: float


def swim(
    swimmer: Swimmer, frames: int, anchor: float, x: float, y: float, heading: int
) -> Trajectory:
    """Lay a path through a point.

    The fish is at (x, y) at frame ``anchor``, swims on from there to the last frame and, backwards
    in time, to the first. Where it passes a border it turns round in the course of some frames.

    Args:
        swimmer (Swimmer): how it swims.
        frames (int): number of frames.
        anchor (float): frame of the given point, 0..frames-1.
        x (float): place of the middle in image widths.
        y (float): place of the middle in image widths.
        heading (int): 1 to the right, -1 to the left at the anchor.

    Returns:
        Trajectory: the path.
    """
    start = int(np.clip(round(anchor), 0, frames - 1))
    ahead = _walk(swimmer, frames - start, start, x, heading, 1)
    behind = _walk(swimmer, start + 1, start, x, heading, -1)
    angle = np.concatenate([behind[:0:-1, 1], ahead[:, 1]])
    place = np.concatenate([behind[:0:-1, 0], ahead[:, 0]])
    time = np.arange(frames)
    amplitude, cycles, phase = swimmer.heave
    wave = np.sin(2 * np.pi * cycles * (time - start) + phase) - np.sin(phase)
    height = y + amplitude * wave
    rise = np.gradient(height) if frames > 1 else np.zeros(1)
    cosine = np.cos(angle)
    sign = np.where(cosine >= 0, 1.0, -1.0)
    facing = sign * np.sqrt(cosine**2 + (swimmer.girth * np.sin(angle)) ** 2)
    pitch = sign * np.clip(rise / swimmer.speed, -0.5, 0.5) * cosine**2
    turned = (1 - np.cos(angle)) / 2
    depth = swimmer.depth + swimmer.depth_step * (turned - turned[start])
    scale = swimmer.length * (1.12 - 0.24 * depth)
    return Trajectory(place, height, scale, facing, pitch, depth)


def _walk(
    swimmer: Swimmer, steps: int, start: int, x: float, heading: int, direction: int
) -> npt.NDArray[np.float64]:
    """Follow the fish forwards (direction 1) or backwards (-1) in time from the anchor.

    Returns:
        float64 [steps, 2]: place x and heading angle (0 to the right, pi to the left).
    """
    left, right = swimmer.borders
    goal = 0.0 if heading > 0 else np.pi
    progress, origin = 1.0, goal
    strength, cycles, phase = swimmer.surge
    result = np.empty((steps, 2))
    angle = goal
    for step in range(steps):
        result[step] = x, angle
        motion = direction * np.cos(goal)
        if progress >= 1.0 and ((x > right and motion > 0) or (x < left and motion < 0)):
            origin, goal, progress = goal, np.pi - goal, 0.0
        progress = min(1.0, progress + 1.0 / swimmer.turn_frames)
        smooth = progress * progress * (3 - 2 * progress)
        angle = origin + (goal - origin) * smooth
        t = start + direction * step
        pace = swimmer.speed * (1 + strength * np.sin(2 * np.pi * cycles * t + phase))
        x += direction * pace * np.cos(angle)
    return result


def stand(
    frames: int, x: float, y: float, height: float, depth: float, drift: npt.NDArray[np.float64]
) -> Trajectory:
    """Place scenery that only moves with the camera.

    Args:
        frames (int): number of frames.
        x (float): place of the foot in image widths.
        y (float): place of the foot in image widths.
        height (float): in image widths.
        depth (float): 0..1.
        drift (float64 [frames, 2]): displacement of the background in image widths; nearer things
            move up to twice as far.

    Returns:
        Trajectory: the path.
    """
    parallax = 2.0 - depth
    constant = np.ones(frames)
    return Trajectory(
        x + parallax * drift[:, 0],
        y + parallax * drift[:, 1],
        height * constant,
        constant,
        0.0 * constant,
        depth * constant,
    )
