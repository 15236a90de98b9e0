"""The toys of the playroom: twelve kinds of rigid bodies with proportions of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from amodal2.data.synthetic.solids import Part, ball, block, hull, tube

Build = Callable[[np.random.Generator], tuple[Part, ...]]

_GOLDEN = (1 + 5**0.5) / 2


def _ball(rng: np.random.Generator) -> tuple[Part, ...]:
    return (ball((0, 0, 0), rng.uniform(0.24, 0.42)),)


def _egg(rng: np.random.Generator) -> tuple[Part, ...]:
    return (ball((0, 0, 0), rng.uniform((0.2, 0.24, 0.36), (0.26, 0.32, 0.55))),)


def _box(rng: np.random.Generator) -> tuple[Part, ...]:
    return (block((0, 0, 0), rng.uniform(0.17, 0.4, 3)),)


def _wedge(rng: np.random.Generator) -> tuple[Part, ...]:
    x, y, z = rng.uniform((0.3, 0.2, 0.2), (0.48, 0.4, 0.36))
    return (hull([(sx * x, sy * y, -z) for sx in (-1, 1) for sy in (-1, 1)] + [
        (-x, -y, z), (-x, y, z)
    ]),)  # fmt: skip


def _pyramid(rng: np.random.Generator) -> tuple[Part, ...]:
    side, height = rng.uniform(0.28, 0.42), rng.uniform(0.3, 0.46)
    foot = [(sx * side, sy * side, -0.5 * height) for sx in (-1, 1) for sy in (-1, 1)]
    return (hull([*foot, (0, 0, height)]),)


def _gem(rng: np.random.Generator) -> tuple[Part, ...]:
    size, inverse = rng.uniform(0.16, 0.24), 1 / _GOLDEN
    signs = (-1.0, 1.0)
    corners = [(x, y, z) for x in signs for y in signs for z in signs]
    for a in (-inverse, inverse):
        for b in (-_GOLDEN, _GOLDEN):
            corners += [(0.0, a, b), (a, b, 0.0), (b, 0.0, a)]
    return (hull(size * np.array(corners)),)


def _cylinder(rng: np.random.Generator) -> tuple[Part, ...]:
    return (tube((0, 0, 0), 2, rng.uniform(0.18, 0.36), rng.uniform(0.15, 0.45)),)


def _cone(rng: np.random.Generator) -> tuple[Part, ...]:
    radius, height = rng.uniform(0.26, 0.4), rng.uniform(0.5, 0.85)
    turn = np.arange(18) * (2 * np.pi / 18)
    foot = np.stack([radius * np.cos(turn), radius * np.sin(turn), 0 * turn - height / 3], axis=1)
    return (hull(np.concatenate([foot, [[0, 0, 2 * height / 3]]])),)


def _capsule(rng: np.random.Generator) -> tuple[Part, ...]:
    radius, half = rng.uniform(0.15, 0.24), rng.uniform(0.2, 0.4)
    ends = (ball((0, 0, side * half), radius) for side in (-1, 1))
    return (tube((0, 0, 0), 2, radius, half), *ends)


def _dumbbell(rng: np.random.Generator) -> tuple[Part, ...]:
    half, grip = rng.uniform(0.3, 0.45), rng.uniform(0.07, 0.11)
    radii = rng.uniform(0.18, 0.3, 2)
    ends = (ball((s * half, 0, 0), r) for s, r in zip((-1, 1), radii, strict=True))
    return (tube((0, 0, 0), 0, grip, half), *ends)


def _jack(rng: np.random.Generator) -> tuple[Part, ...]:
    thick = rng.uniform(0.08, 0.12)
    lengths = rng.uniform(0.34, 0.5, 3)
    return tuple(
        block((0, 0, 0), np.where(np.arange(3) == axis, lengths[axis], thick)) for axis in range(3)
    )


def _table(rng: np.random.Generator) -> tuple[Part, ...]:
    x, y, z = rng.uniform((0.32, 0.26, 0.2), (0.48, 0.4, 0.34))
    leg = rng.uniform(0.045, 0.07)
    top = block((0, 0, z), (x, y, 0.05))
    feet = (block((sx * (x - leg), sy * (y - leg), 0), (leg, leg, z)) for sx in (-1, 1)
            for sy in (-1, 1))  # fmt: skip
    return (top, *feet)


@dataclass(frozen=True)
class ToyKind:
    """A kind of toy.

    Attributes:
        name (str): of the category.
        build (Callable): draws the proportions of an individual.
    """

    name: str
    build: Build


TOYS = (
    ToyKind("ball", _ball),
    ToyKind("egg", _egg),
    ToyKind("box", _box),
    ToyKind("wedge", _wedge),
    ToyKind("pyramid", _pyramid),
    ToyKind("gem", _gem),
    ToyKind("cylinder", _cylinder),
    ToyKind("cone", _cone),
    ToyKind("capsule", _capsule),
    ToyKind("dumbbell", _dumbbell),
    ToyKind("jack", _jack),
    ToyKind("table", _table),
)
"""Every kind; its place is the category id minus one."""

CATEGORIES: dict[int, str] = {i + 1: kind.name for i, kind in enumerate(TOYS)}
"""Category id to name."""
