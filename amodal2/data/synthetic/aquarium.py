"""The aquarium: six kinds of fish among rocks, corals and plants."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.choreography import USUAL, Choreographer, Crowding, Role, Spot
from amodal2.data.synthetic.motion import stand
from amodal2.data.synthetic.scene import Actor, Appendage, Scene, check_size
from amodal2.data.synthetic.scenery import draw_bush, draw_kelp, draw_rock
from amodal2.data.synthetic.species import SPECIES, draw_individual
from amodal2.data.synthetic.warp import Rigid, Sway, Swim
from amodal2.data.synthetic.water import Water

CATEGORIES: dict[int, str] = {i + 1: species.name for i, species in enumerate(SPECIES)}
"""Category id to name."""

_FISH_COUNT = ((5, 6, 7, 8, 9, 10, 11, 12), (0.15, 0.21, 0.23, 0.19, 0.12, 0.05, 0.03, 0.02))
_DETAIL = 1.15


@dataclass(frozen=True)
class _Set:
    """The stage before the fish come: sizes, camera drift and what stands where."""

    frames: int
    width: int
    aspect: float
    drift: npt.NDArray[np.float64]


def build_aquarium(
    rng: np.random.Generator, frames: int, height: int, width: int, crowding: Crowding = USUAL
) -> Scene:
    """Make up one video.

    Args:
        rng (np.random.Generator): the only source of randomness.
        frames (int): number of frames.
        height (int): rows for which textures are made.
        width (int): columns for which textures are made.
        crowding (Crowding): how much the video shall hide.

    Returns:
        Scene: fish first (annotated), then scenery.

    Raises:
        ValueError: if there is no frame or the picture is too small or too oblong.
    """
    check_size("build_aquarium", frames, (height, width), 32, (0.4, 1.2))
    stage = _Set(frames, width, height / width, _camera_drift(rng, frames))
    water = Water(rng, stage.aspect, stage.drift)
    scenery, spots = _draw_scenery(rng, stage)
    roles = _cast(rng, [actor.trajectory.depth[0] for actor in scenery])
    fish = [_draw_fish(rng, role, stage) for role in roles]
    scene = Scene(frames, [*fish, *scenery], water, dict(CATEGORIES))
    choreographer = Choreographer(rng, roles, spots, frames, stage.aspect, crowding)
    for actor, path in zip(fish, choreographer.choreograph(scene), strict=True):
        actor.trajectory = path
    return scene


def _camera_drift(rng: np.random.Generator, frames: int) -> npt.NDArray[np.float64]:
    """Draw the displacement of the background (float64 [T, 2]) in image widths."""
    t = np.arange(frames)
    drift = np.zeros((frames, 2))
    for axis, reach in enumerate((0.028, 0.008)):
        for cycles in (rng.uniform(0.004, 0.01), rng.uniform(0.01, 0.02)):
            phase, size = rng.uniform(0, 2 * np.pi), reach * rng.uniform(0.3, 1.0) / 2
            drift[:, axis] += size * np.sin(2 * np.pi * cycles * t + phase)
    return drift


def _cast(rng: np.random.Generator, taken: list[float]) -> list[Role]:
    """Choose kinds, sizes and depths of the fish; no two actors share a depth."""
    counts, chances = _FISH_COUNT
    count = int(rng.choice(counts, p=chances))
    shrink = 1.0 if count <= 8 else 0.92
    slots = 0.1 + 0.84 * (rng.permutation(count) + rng.uniform(0.2, 0.8, count)) / count
    roles = []
    kinds = np.concatenate([rng.permutation(len(SPECIES)) for _ in range(2)])
    for slot, kind in zip(slots, kinds, strict=False):
        again = rng.random() < 0.25
        species = SPECIES[int(rng.integers(len(SPECIES))) if again else int(kind)]
        depth = float(slot)
        while any(abs(depth - other) < 1e-3 for other in taken):
            depth += 2e-3
        roles.append(Role(species, shrink * rng.uniform(*species.length), depth))
    return roles


def _draw_fish(rng: np.random.Generator, role: Role, stage: _Set) -> Actor:
    """Make one fish; its path is laid later."""
    species = role.species
    look = draw_individual(species, rng, max(24.0, role.length * stage.width * _DETAIL))
    beat = rng.uniform(*species.beat)
    phase = rng.uniform(0, 2 * np.pi)
    body = Swim(
        amplitude=species.amplitude * rng.uniform(0.8, 1.2),
        wavelength=species.wavelength,
        frequency=beat,
        phase=phase,
        swing=rng.uniform(0.25, 0.42),
        ripple=species.ripple,
    )
    fin = Appendage(
        look.pectoral, species.pectoral[:2], 0.25, rng.uniform(0.3, 0.55), 0.8 * beat, phase
    )
    anywhere = stand(stage.frames, 0.5, 0.5, role.length, role.depth, stage.drift)
    return Actor(look.body, body, anywhere, SPECIES.index(species) + 1, (fin,))


def _draw_scenery(rng: np.random.Generator, stage: _Set) -> tuple[list[Actor], list[Spot]]:
    """Place rocks, corals and plants, and list those that can hide a fish."""
    actors: list[Actor] = []
    spots: list[Spot] = []
    rocks = int(rng.integers(1, 3))
    first = rng.uniform(0.0, 1.0)
    for index in range(rocks):
        x = 0.1 + 0.8 * ((first + index * 0.37 + rng.uniform(-0.05, 0.05)) % 1.0)
        large = index == 0
        height = rng.uniform(0.26, 0.38) if large else rng.uniform(0.12, 0.28)
        width = rng.uniform(0.95, 1.35) if large else rng.uniform(0.9, 1.7)
        depth = rng.uniform(0.12, 0.42) if large else rng.uniform(0.15, 0.85)
        foot = stage.aspect * (1.06 - 0.2 * depth)
        sprite = draw_rock(
            rng, width, max(16.0, height * stage.width * _DETAIL), coral=rng.random() < 0.35
        )
        path = stand(stage.frames, x, foot, height, depth, stage.drift)
        actors.append(Actor(sprite, Rigid(), path))
        visible = min(height, height - (foot - stage.aspect))
        spots.append(
            Spot(x, foot - height + 0.52 * visible, 0.92 * width * height, 0.85 * visible, depth)
        )
    for _ in range(int(rng.integers(2, 4))):
        actor, spot = _draw_plant(rng, stage)
        actors.append(actor)
        if spot is not None:
            spots.append(spot)
    return _separate(actors), spots


def _draw_plant(rng: np.random.Generator, stage: _Set) -> tuple[Actor, Spot | None]:
    """Place one plant; a dense one also hides fish."""
    x, depth = rng.uniform(0.04, 0.96), rng.uniform(0.12, 0.88)
    foot = stage.aspect * (1.05 - 0.18 * depth)
    bushy = rng.random() < 0.42
    height = rng.uniform(0.22, 0.34) if bushy else rng.uniform(0.34, 0.66)
    pixels = max(16.0, height * stage.width * _DETAIL)
    if bushy:
        width = rng.uniform(0.8, 1.15)
        sprite = draw_bush(rng, width, pixels)
        spot = Spot(x, foot - 0.5 * height, 0.75 * width * height, 0.7 * height, depth)
    else:
        width = rng.uniform(0.2, 0.4)
        sprite, spot = draw_kelp(rng, width, pixels), None
    sway = Sway(
        rng.uniform(0.02, 0.06),
        rng.uniform(0.015, 0.035),
        rng.uniform(0.8, 2.2),
        rng.uniform(0, 2 * np.pi),
    )
    path = stand(stage.frames, x, foot, height, depth, stage.drift)
    return Actor(sprite, sway, path), spot


def _separate(actors: list[Actor]) -> list[Actor]:
    """Give scenery depths that differ by at least 1e-3."""
    result: list[Actor] = []
    taken: list[float] = []
    for actor in actors:
        depth = float(actor.trajectory.depth[0])
        while any(abs(depth - other) < 1e-3 for other in taken):
            depth += 2e-3
        taken.append(depth)
        path = replace(actor.trajectory, depth=np.full_like(actor.trajectory.depth, depth))
        result.append(replace(actor, trajectory=path))
    return result
