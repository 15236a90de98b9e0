"""The market: still pictures of cars, persons, animals, boxes, bottles and chairs in a crowd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from amodal2.data.synthetic.goods_drawings import (
    draw_bottle,
    draw_bottle_lying,
    draw_box_corner,
    draw_box_front,
    draw_chair_corner,
    draw_chair_front,
    draw_chair_side,
)
from amodal2.data.synthetic.noise import FloatImage, fractal_noise
from amodal2.data.synthetic.object_drawings import (
    draw_animal_front,
    draw_animal_side,
    draw_car_corner,
    draw_car_front,
    draw_car_rear,
    draw_car_side,
    draw_person_front,
    draw_person_side,
)
from amodal2.data.synthetic.object_parts import darker, pick_colour
from amodal2.data.synthetic.render import draw_actor, object_masks
from amodal2.data.synthetic.scene import Actor, Scene, Trajectory, check_size
from amodal2.data.synthetic.sprite import Sprite
from amodal2.data.synthetic.warp import Rigid

View = Callable[[np.random.Generator, float], Sprite]


@dataclass(frozen=True)
class Thing:
    """A kind of thing.

    Attributes:
        name (str): of the category.
        height (tuple[float, float]): range at the nearest depth, in image heights.
        views (tuple[View, ...]): its drawings, all equally likely.
    """

    name: str
    height: tuple[float, float]
    views: tuple[View, ...]


THINGS = (
    Thing("car", (0.21, 0.3), (draw_car_side, draw_car_front, draw_car_rear, draw_car_corner)),
    Thing("person", (0.35, 0.5), (draw_person_front, draw_person_side)),
    Thing("animal", (0.21, 0.33), (draw_animal_side, draw_animal_front)),
    Thing("box", (0.16, 0.28), (draw_box_front, draw_box_corner)),
    Thing("bottle", (0.21, 0.35), (draw_bottle, draw_bottle, draw_bottle_lying)),
    Thing("chair", (0.26, 0.37), (draw_chair_side, draw_chair_front, draw_chair_corner)),
)
"""Every kind; its place is the category id minus one."""

CATEGORIES: dict[int, str] = {i + 1: thing.name for i, thing in enumerate(THINGS)}
"""Category id to name."""

_COUNT = (6, 15)
_CROWDED = 0.33
"""Chance that a thing is put beside one that stands already, not anywhere."""
_FAR_SIZE = 0.55
"""Size at depth 1 relative to depth 0."""
_LEAST_PIXELS = 40
_LEAST_SHARE = 0.1
_DETAIL = 1.15


class Square:
    """Background of a market: a wall with openings and a paved floor; implements ``Backdrop``.

    Attributes:
        haze (float32 [3]): colour that far things fade to.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        """Paint the picture once.

        Args:
            rng (np.random.Generator): source of colours, textures and grain.
            height (int): rows.
            width (int): columns.
        """
        horizon = round(height * rng.uniform(0.3, 0.5))
        wall, floor = pick_colour(rng, (0.05, 0.3)), pick_colour(rng, (0.05, 0.25))
        picture = np.empty((height, width, 3), np.float32)
        picture[:horizon], picture[horizon:] = wall, floor
        for _ in range(int(rng.integers(3, 9))):
            x, w = rng.integers(0, width), rng.integers(width // 24 + 1, width // 5 + 2)
            y, h = rng.integers(0, horizon), rng.integers(horizon // 6 + 1, horizon // 2 + 2)
            shade = darker(wall, rng.uniform(0.4, 1.4))
            picture[y : min(y + h, horizon), x : x + w] = shade
        rows = horizon + (np.linspace(0, 1, 7)[1:] ** 1.7 * (height - horizon)).astype(int)
        picture[np.clip(rows, 0, height - 1)] *= np.float32(0.8)
        grain = fractal_noise(rng, height, width, 12.0, octaves=5, persistence=0.7)
        picture *= (0.72 + 0.5 * grain)[..., None]
        self._picture = cv2.GaussianBlur(picture, (0, 0), 0.7)
        self._light = np.float32(rng.uniform(0.88, 1.08))
        self._noise = rng.normal(0.0, 0.012, (height, width, 1)).astype(np.float32)
        self.haze = picture[:horizon].reshape(-1, 3).mean(axis=0)

    def canvas(self, t: int, height: int, width: int) -> FloatImage:
        """Return the background, whose size is the one given at the start."""
        return self._picture.copy()

    def shift(self, t: int) -> tuple[float, float]:
        """Return no displacement: the picture stands still."""
        return 0.0, 0.0

    def finish(self, picture: FloatImage, t: int) -> FloatImage:
        """Light the composed picture and add the camera's grain."""
        return picture * self._light + self._noise


def build_market(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Make up one picture.

    Things stand on the floor, nearer ones lower in the picture and larger, most of them in
    clusters. One of which less than 10 % or less than 40 pixels can be seen is taken away.

    Args:
        rng (np.random.Generator): the only source of randomness.
        height (int): rows.
        width (int): columns.

    Returns:
        Scene: one frame; every actor is annotated.

    Raises:
        ValueError: if the picture is too small or too oblong.
    """
    check_size("build_market", 1, (height, width), 64, (0.4, 1.5))
    backdrop = Square(rng, height, width)
    count = int(rng.integers(*_COUNT))
    depths = (rng.permutation(count) + rng.uniform(0.2, 0.8, count)) / count
    actors: list[Actor] = []
    for depth in depths.tolist():
        actors.append(_place(rng, actors, depth, height, width))
    return _without_hidden(Scene(1, actors, backdrop, dict(CATEGORIES)), height, width)


def _place(
    rng: np.random.Generator, actors: list[Actor], depth: float, height: int, width: int
) -> Actor:
    """Draw one thing and choose where it stands."""
    kind = int(rng.integers(len(THINGS)))
    thing, aspect = THINGS[kind], height / width
    scale = aspect * rng.uniform(*thing.height) * (1.0 - (1.0 - _FAR_SIZE) * depth)
    view = thing.views[int(rng.integers(len(thing.views)))]
    sprite = view(rng, max(24.0, scale * width * _DETAIL))
    if actors and rng.random() < _CROWDED:
        beside = actors[int(rng.integers(len(actors)))].trajectory
        x = float(beside.x[0]) + rng.normal(0.0, 0.16)
    else:
        x = rng.uniform(0.0, 1.0)
    foot = aspect * (0.99 - 0.42 * depth + rng.uniform(-0.02, 0.02))
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    values = (float(np.clip(x, 0.02, 0.98)), foot, scale, mirror, rng.normal(0.0, 0.03), depth)
    return Actor(sprite, Rigid(), Trajectory(*(np.array([v]) for v in values)), kind + 1)


def _without_hidden(scene: Scene, height: int, width: int) -> Scene:
    """Take away the things of which too little can be seen; the others only gain by that."""
    patches = [draw_actor(actor, 0, height, width) for actor in scene.actors]
    visible, amodal, _ = object_masks(scene, scene.order(0), patches, height, width)
    seen, whole = visible.sum(axis=(1, 2)), amodal.sum(axis=(1, 2))
    kept = (seen >= _LEAST_PIXELS) & (seen >= _LEAST_SHARE * whole)
    scene.actors = [actor for actor, stays in zip(scene.actors, kept, strict=True) if stays]
    return scene
