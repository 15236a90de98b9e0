"""Drawings of things that move: cars, persons and animals, each from several sides.

Every function takes (rng, pixels per unit) and draws one individual that stands on v = 0.
"""

from __future__ import annotations

import numpy as np

from amodal2.data.synthetic.object_parts import (
    RGB,
    darker,
    paint_limb,
    paint_surface,
    paint_wheel,
    pattern,
    pick_colour,
    slab,
)
from amodal2.data.synthetic.sprite import Canvas, Points, Sprite

_GLASS: RGB = (0.22, 0.3, 0.36)
_SKINS: tuple[RGB, ...] = ((0.92, 0.74, 0.62), (0.72, 0.52, 0.38), (0.42, 0.28, 0.2))
_HAIRS: tuple[RGB, ...] = ((0.1, 0.07, 0.05), (0.4, 0.25, 0.12), (0.78, 0.66, 0.4), (0.5,) * 3)
_FURS: tuple[RGB, ...] = ((0.5, 0.34, 0.2), (0.2, 0.17, 0.15), (0.85, 0.8, 0.7), (0.62, 0.45, 0.3))


def draw_car_side(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a car from its right side: hatchback, saloon or van."""
    canvas = Canvas((-1.5, -1.08, 1.5, 0.04), pixels_per_unit)
    front, rear, long = rng.uniform(0.5, 0.85), rng.uniform(0.55, 1.25), rng.uniform(1.15, 1.4)
    bonnet = rng.uniform(-0.64, -0.54)
    roof = (-rear + 0.28, front - 0.42)
    body = [(-long, -0.18), (-long - 0.02, -0.5), (-rear - 0.05, -0.64), (roof[0], -1.0)]
    body += [(roof[1], -1.0), (front, bonnet - 0.04), (long - 0.08, bonnet + 0.06)]
    body += [(long, -0.4), (long, -0.18)]
    colour = pick_colour(rng)
    paint_surface(canvas, rng, body, colour)
    middle = (roof[0] + roof[1]) / 2 + rng.uniform(-0.1, 0.1)
    back = [(-rear + 0.1, -0.66), (roof[0] + 0.05, -0.93), (middle - 0.03, -0.93)]
    ahead = [(middle + 0.03, -0.66), (middle + 0.03, -0.93), (roof[1] - 0.03, -0.93)]
    for window in ([*back, (middle - 0.03, -0.66)], [*ahead, (front - 0.08, -0.66)]):
        canvas.tint(canvas.polygon(window, smooth=False), _GLASS)
    for x in (middle, front - 0.05, -rear + 0.1):
        canvas.tint(0.5 * canvas.line([(x, -0.64), (x, -0.24)], 0.015), (0.05, 0.05, 0.05))
    canvas.tint(canvas.polygon(slab(long - 0.12, -0.48, long, -0.4), smooth=False), (1, 0.95, 0.7))
    canvas.tint(canvas.polygon(slab(-long, -0.52, -long + 0.08, -0.4), smooth=False), (0.8, 0, 0))
    for x in (-long + 0.42, long - 0.4):
        paint_wheel(canvas, (x, -0.2), 0.2, 1.0)
    return canvas.finish()


def _draw_car_end(rng: np.random.Generator, pixels_per_unit: float, lamps: RGB) -> Sprite:
    """Draw a car from the front or the rear, which the colour of the lamps tells apart."""
    canvas = Canvas((-0.75, -1.08, 0.75, 0.04), pixels_per_unit)
    half, cabin = rng.uniform(0.58, 0.68), rng.uniform(0.4, 0.5)
    for x in (-half + 0.1, half - 0.1):
        canvas.paint(canvas.polygon(slab(x - 0.09, -0.3, x + 0.09, 0.0), smooth=False), (0.06,) * 3)
    body = [(-half, -0.14), (-half - 0.02, -0.52), (-cabin - 0.08, -0.66), (-cabin, -0.98)]
    colour = pick_colour(rng)
    paint_surface(canvas, rng, [*body, *[(-u, v) for u, v in reversed(body)]], colour)
    glass = [(-cabin - 0.01, -0.66), (-cabin + 0.06, -0.93)]
    window = [*glass, *[(-u, v) for u, v in reversed(glass)]]
    canvas.tint(canvas.polygon(window, smooth=False), _GLASS)
    for x in (-half + 0.12, half - 0.12):
        canvas.tint(canvas.disc((x, -0.48), 0.08), lamps)
    grille = slab(-half + 0.26, -0.5, half - 0.26, -0.38)
    canvas.tint(canvas.polygon(grille, smooth=False), darker(colour, 0.4))
    canvas.tint(canvas.polygon(slab(-0.14, -0.3, 0.14, -0.22), smooth=False), (0.92, 0.92, 0.85))
    return canvas.finish()


def draw_car_front(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a car that comes towards the camera."""
    return _draw_car_end(rng, pixels_per_unit, (1.0, 0.97, 0.8))


def draw_car_rear(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a car that drives away."""
    return _draw_car_end(rng, pixels_per_unit, (0.8, 0.06, 0.04))


def draw_car_corner(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a car from its front right corner: a foreshortened side beside the front."""
    canvas = Canvas((-1.2, -1.08, 1.05, 0.04), pixels_per_unit)
    edge, far = rng.uniform(0.15, 0.35), rng.uniform(0.85, 0.98)
    rear = rng.uniform(-1.12, -0.95)
    colour = pick_colour(rng)
    side = [(rear, -0.22), (rear, -0.55), (-0.72, -0.98), (0.05, -1.0), (edge, -0.6), (edge, -0.1)]
    front = [(edge, -0.1), (edge, -0.6), (0.05, -1.0), (far - 0.28, -0.96), (far, -0.56)]
    paint_surface(canvas, rng, side, darker(colour, 0.75))
    paint_surface(canvas, rng, [*front, (far, -0.2)], colour)
    panes: tuple[Points, ...] = (
        [(-0.86, -0.62), (-0.66, -0.92), (-0.02, -0.93), (edge - 0.1, -0.62)],
        [(edge + 0.04, -0.62), (0.12, -0.93), (far - 0.32, -0.9), (far - 0.1, -0.6)],
    )
    for pane in panes:
        canvas.tint(canvas.polygon(pane, smooth=False), _GLASS)
    for x in (edge + 0.12, far - 0.1):
        canvas.tint(canvas.disc((x, -0.44), 0.07), (1.0, 0.97, 0.8))
    paint_wheel(canvas, (rear + 0.28, -0.19), 0.19, 0.75)
    paint_wheel(canvas, (edge - 0.14, -0.17), 0.19, 0.7)
    return canvas.finish()


def _paint_head(canvas: Canvas, rng: np.random.Generator, x: float, face: float) -> None:
    """Paint neck, head and hair; ``face`` is where the face looks, -1 (left) to 1."""
    skin = _SKINS[int(rng.integers(len(_SKINS)))]
    hair = _HAIRS[int(rng.integers(len(_HAIRS)))]
    canvas.paint(canvas.polygon(slab(x - 0.03, -0.88, x + 0.03, -0.8), smooth=False), skin)
    canvas.paint(canvas.disc((x, -0.92), 0.078), hair)
    canvas.paint(canvas.disc((x + 0.018 * face, -0.905), 0.066), skin)
    for side in (-1, 1):
        canvas.tint(canvas.disc((x + 0.03 * face + 0.024 * side, -0.915), 0.009), (0.05, 0.05, 0.1))


def draw_person_front(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a standing person from the front."""
    canvas = Canvas((-0.42, -1.04, 0.42, 0.04), pixels_per_unit)
    shoulder, spread = rng.uniform(0.15, 0.2), rng.uniform(0.03, 0.09)
    trousers, shirt = pick_colour(rng), pick_colour(rng)
    skin = _SKINS[int(rng.integers(len(_SKINS)))]
    for side in (-1, 1):
        hand = (side * (shoulder + rng.uniform(0.02, 0.14)), rng.uniform(-0.52, -0.42))
        paint_limb(canvas, rng, (side * shoulder * 0.92, -0.78), hand, (0.085, 0.055), shirt)
        canvas.paint(canvas.disc(hand, 0.032), skin)
        foot = (side * (0.07 + spread), -0.03)
        paint_limb(canvas, rng, (side * 0.065, -0.48), foot, (0.13, 0.085), trousers)
        canvas.paint(canvas.polygon(slab(foot[0] - 0.05, -0.045, foot[0] + 0.05, 0.0)), (0.1,) * 3)
    coat = rng.uniform(-0.46, -0.3)
    trunk = [(-shoulder, -0.8), (0.0, -0.84), (shoulder, -0.8), (0.13, -0.6), (0.15, coat)]
    trunk += [(-0.15, coat), (-0.13, -0.6)]
    paint_surface(canvas, rng, trunk, shirt, blend=pattern(canvas, rng), rounded=0.05)
    _paint_head(canvas, rng, 0.0, 0.0)
    return canvas.finish()


def draw_person_side(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a person who walks to the right."""
    canvas = Canvas((-0.42, -1.04, 0.42, 0.04), pixels_per_unit)
    stride, swing = rng.uniform(0.1, 0.24), rng.uniform(0.08, 0.22)
    trousers, shirt = pick_colour(rng), pick_colour(rng)
    skin = _SKINS[int(rng.integers(len(_SKINS)))]
    for side in (-1, 1):
        knee = (side * 0.6 * stride + 0.03, -0.27)
        foot = (side * stride - 0.02, -0.03)
        cloth = darker(trousers, 0.8 if side < 0 else 1.0)
        paint_limb(canvas, rng, (0.0, -0.5), knee, (0.14, 0.1), cloth)
        paint_limb(canvas, rng, knee, foot, (0.1, 0.075), cloth)
        shoe = slab(foot[0] - 0.035, -0.045, foot[0] + 0.085, 0.0)
        canvas.paint(canvas.polygon(shoe, smooth=False), (0.12, 0.1, 0.1))
    trunk = [(-0.1, -0.79), (0.02, -0.84), (0.1, -0.76), (0.11, -0.58), (0.09, -0.44)]
    trunk += [(-0.09, -0.44), (-0.11, -0.62)]
    paint_surface(canvas, rng, trunk, shirt, blend=pattern(canvas, rng), rounded=0.05)
    hand = (swing, -0.48)
    paint_limb(canvas, rng, (0.0, -0.77), hand, (0.08, 0.055), darker(shirt, 0.85))
    canvas.paint(canvas.disc(hand, 0.032), skin)
    if rng.random() < 0.4:
        bag = [(-0.22, -0.76), (-0.1, -0.78), (-0.1, -0.52), (-0.22, -0.54)]
        paint_surface(canvas, rng, bag, pick_colour(rng))
    _paint_head(canvas, rng, 0.02, 1.0)
    return canvas.finish()


def draw_animal_side(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a four-legged animal from its right side, from a slim dog to a stout cow."""
    canvas = Canvas((-1.1, -1.08, 1.1, 0.04), pixels_per_unit)
    fur = _FURS[int(rng.integers(len(_FURS)))]
    stout, long = rng.uniform(0.3, 0.46), rng.uniform(0.5, 0.66)
    back = rng.uniform(-0.74, -0.66)
    for x, shift, dark in ((-1, 0.1, 0.65), (1, -0.1, 0.65), (-1, -0.02, 1.0), (1, 0.02, 1.0)):
        hip = (x * (long - 0.12) + shift, back + stout * 0.7)
        foot = (hip[0] + rng.uniform(-0.08, 0.08), -0.02)
        paint_limb(canvas, rng, hip, foot, (0.16, 0.09), darker(fur, dark))
    tail = [(-long - 0.05, back + 0.12), (-long - 0.25, back + rng.uniform(-0.2, 0.4))]
    canvas.paint(canvas.line(tail, 0.05), darker(fur, 0.8))
    trunk = [(-long - 0.08, back + 0.1), (-long + 0.1, back), (0.0, back + 0.02), (long, back)]
    trunk += [(long + 0.08, back + 0.16), (long - 0.1, back + stout), (-long + 0.1, back + stout)]
    patches = pattern(canvas, rng, "spots" if rng.random() < 0.5 else "plain")
    paint_surface(canvas, rng, trunk, fur, smooth=True, blend=patches)
    head = (long + 0.2, rng.uniform(-0.9, -0.78))
    paint_limb(canvas, rng, (long - 0.05, back + 0.12), head, (0.26, 0.18), fur)
    skull = [(head[0] - 0.14, head[1] - 0.1), (head[0] + 0.08, head[1] - 0.1)]
    skull += [(head[0] + 0.28, head[1] + 0.04), (head[0] + 0.24, head[1] + 0.13)]
    paint_surface(canvas, rng, [*skull, (head[0] - 0.1, head[1] + 0.14)], fur, smooth=True)
    ear = [(head[0] - 0.12, head[1] - 0.06), (head[0] - 0.06, head[1] - 0.2), (head[0], head[1])]
    canvas.paint(canvas.polygon(ear), darker(fur, 0.6))
    canvas.tint(canvas.disc((head[0] + 0.07, head[1] - 0.01), 0.022), (0.03, 0.02, 0.02))
    canvas.tint(canvas.disc((head[0] + 0.26, head[1] + 0.06), 0.03), (0.05, 0.03, 0.03))
    return canvas.finish()


def draw_animal_front(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw an animal that sits and looks at the camera."""
    canvas = Canvas((-0.5, -1.08, 0.5, 0.04), pixels_per_unit)
    fur = _FURS[int(rng.integers(len(_FURS)))]
    broad = rng.uniform(0.28, 0.38)
    trunk = [(-broad * 0.6, -0.66), (broad * 0.6, -0.66), (broad, -0.24), (broad * 0.95, -0.02)]
    trunk += [(-broad * 0.95, -0.02), (-broad, -0.24)]
    patches = pattern(canvas, rng, "spots" if rng.random() < 0.5 else "plain")
    paint_surface(canvas, rng, trunk, fur, smooth=True, blend=patches)
    for side in (-1, 1):
        paint_limb(canvas, rng, (side * 0.11, -0.5), (side * 0.12, -0.01), (0.13, 0.11), fur)
        ear = [(side * 0.22, -0.82), (side * rng.uniform(0.18, 0.3), -1.02), (side * 0.05, -0.92)]
        canvas.paint(canvas.polygon(ear, smooth=False), darker(fur, 0.6))
    head = [(-0.23, -0.8), (-0.12, -0.95), (0.12, -0.95), (0.23, -0.8), (0.14, -0.6), (-0.14, -0.6)]
    paint_surface(canvas, rng, head, fur, smooth=True)
    for side in (-1, 1):
        canvas.tint(canvas.disc((side * 0.09, -0.81), 0.03), (0.03, 0.02, 0.02))
    canvas.tint(canvas.disc((0.0, -0.69), 0.045), (0.06, 0.04, 0.04))
    return canvas.finish()
