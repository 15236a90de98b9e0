"""Drawings of things that stand about: boxes, bottles and chairs, each from several sides.

Every function takes (rng, pixels per unit) and draws one individual that stands on v = 0.
"""

from __future__ import annotations

import cv2
import numpy as np

from amodal2.data.synthetic.object_parts import (
    RGB,
    darker,
    paint_limb,
    paint_surface,
    pattern,
    pick_colour,
    slab,
)
from amodal2.data.synthetic.sprite import Canvas, Points, Sprite

_CARDBOARD: RGB = (0.72, 0.55, 0.36)
_WOODS: tuple[RGB, ...] = ((0.5, 0.32, 0.18), (0.72, 0.54, 0.34), (0.3, 0.2, 0.14))


def _box_colour(rng: np.random.Generator) -> RGB:
    return _CARDBOARD if rng.random() < 0.5 else pick_colour(rng, (0.3, 0.7))


def draw_box_front(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a box from the front, with tape and a label."""
    half = rng.uniform(0.45, 0.75)
    canvas = Canvas((-half - 0.05, -1.04, half + 0.05, 0.04), pixels_per_unit)
    colour = _box_colour(rng)
    paint_surface(canvas, rng, slab(-half, -1.0, half, 0.0), colour, blend=pattern(canvas, rng))
    canvas.tint(0.7 * canvas.polygon(slab(-half, -0.56, half, -0.44), smooth=False), (0.85,) * 3)
    x = rng.uniform(-half * 0.6, 0.0)
    label = slab(x, -0.9, x + half * 0.5, -0.66)
    canvas.tint(canvas.polygon(label, smooth=False), (0.95, 0.95, 0.9))
    return canvas.finish()


def draw_box_corner(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a box from above one of its corners: two sides and the lid."""
    canvas = Canvas((-1.0, -1.04, 1.0, 0.04), pixels_per_unit)
    left, right = rng.uniform(0.4, 0.85), rng.uniform(0.4, 0.85)
    lid, rise = rng.uniform(0.14, 0.26), rng.uniform(0.06, 0.16)
    colour = _box_colour(rng)
    front = -1.0 + lid + rise
    sides: tuple[tuple[Points, float], ...] = (
        ([(-left, -rise), (-left, front - rise), (0.0, front), (0.0, 0.0)], 0.7),
        ([(0.0, 0.0), (0.0, front), (right, front - rise), (right, -rise)], 1.0),
        (
            [
                (-left, front - rise),
                ((right - left) / 2, front - rise - lid),
                (right, front - rise),
                (0.0, front),
            ],
            1.25,
        ),
    )
    blend = pattern(canvas, rng)
    for outline, light in sides:
        paint_surface(canvas, rng, outline, darker(colour, light), blend=blend, rounded=0.04)
    return canvas.finish()


def draw_bottle(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw an upright bottle with a label and a cap."""
    canvas = Canvas((-0.3, -1.04, 0.3, 0.04), pixels_per_unit)
    half, neck = rng.uniform(0.14, 0.2), rng.uniform(0.045, 0.075)
    shoulder, throat = rng.uniform(-0.66, -0.5), rng.uniform(-0.82, -0.74)
    profile = [(half, 0.0), (half, shoulder), (half * 0.8, shoulder - 0.08), (neck, throat)]
    profile += [(neck, -0.98)]
    outline = [*profile, *[(-u, v) for u, v in reversed(profile)]]
    colour = pick_colour(rng, (0.5, 0.9))
    paint_surface(canvas, rng, outline, colour, rounded=0.1)
    shine = canvas.line([(-half * 0.6, -0.08), (-half * 0.6, shoulder)], 0.02)
    canvas.tint(0.6 * shine, (1.0, 1.0, 1.0))
    low = shoulder * rng.uniform(0.2, 0.4)
    label = slab(-half, shoulder + 0.08, half, low)
    tint = canvas.polygon(label, smooth=False)
    canvas.tint(tint, pick_colour(rng))
    canvas.tint(tint * pattern(canvas, rng), (0.95, 0.95, 0.9))
    cap = slab(-neck * 1.15, -1.0, neck * 1.15, -0.93)
    paint_surface(canvas, rng, cap, pick_colour(rng), rounded=0.02)
    return canvas.finish()


def draw_bottle_lying(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a bottle that lies on its side, its length being the unit."""
    upright = draw_bottle(rng, pixels_per_unit)
    image = np.ascontiguousarray(cv2.rotate(upright.image, cv2.ROTATE_90_CLOCKWISE))
    height, width = image.shape[:2]
    return Sprite(image, upright.pixels_per_unit, ((width - 1) / 2, height - 1.0))


def draw_chair_side(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a chair from its side: four legs, a seat and a leaning back."""
    canvas = Canvas((-0.5, -1.06, 0.5, 0.04), pixels_per_unit)
    wood = _WOODS[int(rng.integers(len(_WOODS)))]
    half, seat = rng.uniform(0.26, 0.36), rng.uniform(-0.52, -0.44)
    lean = rng.uniform(0.04, 0.14)
    for x, dark in ((-half + 0.1, 0.7), (half - 0.1, 0.7), (-half, 1.0), (half, 1.0)):
        end = (x * 1.1, 0.0)
        paint_limb(canvas, rng, (x * 0.92, seat), end, (0.07, 0.05), darker(wood, dark))
    paint_surface(canvas, rng, slab(-half - 0.04, seat - 0.06, half + 0.04, seat + 0.02), wood)
    back = slab(-half - 0.04, -1.0, -half + rng.uniform(0.03, 0.08), seat, -lean)
    paint_surface(canvas, rng, back, wood)
    if rng.random() < 0.5:
        arm = slab(-half, -0.74, half * 0.8, -0.68)
        paint_surface(canvas, rng, arm, wood, rounded=0.02)
        paint_limb(canvas, rng, (half * 0.7, -0.7), (half * 0.75, seat), (0.05, 0.05), wood)
    return canvas.finish()


def draw_chair_front(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a chair from the front, with a closed back or one of bars."""
    canvas = Canvas((-0.5, -1.06, 0.5, 0.04), pixels_per_unit)
    wood = _WOODS[int(rng.integers(len(_WOODS)))]
    half, seat = rng.uniform(0.26, 0.36), rng.uniform(-0.5, -0.42)
    cloth = pick_colour(rng)
    for x in (-half, half):
        paint_limb(canvas, rng, (x * 0.85, seat), (x * 0.9, -0.06), (0.05, 0.05), darker(wood, 0.7))
        paint_limb(canvas, rng, (x, seat), (x * 1.03, 0.0), (0.08, 0.06), wood)
    if rng.random() < 0.5:
        paint_surface(canvas, rng, slab(-half * 0.9, -1.0, half * 0.9, seat), wood)
    else:
        for x in np.linspace(-half * 0.84, half * 0.84, 4):
            paint_surface(canvas, rng, slab(x - 0.03, -0.98, x + 0.03, seat), wood, rounded=0.02)
        paint_surface(canvas, rng, slab(-half * 0.95, -1.0, half * 0.95, -0.88), wood)
    cushion = slab(-half - 0.03, seat - 0.1, half + 0.03, seat + 0.04)
    paint_surface(canvas, rng, cushion, cloth, blend=pattern(canvas, rng))
    return canvas.finish()


def draw_chair_corner(rng: np.random.Generator, pixels_per_unit: float) -> Sprite:
    """Draw a chair from its front right corner."""
    canvas = Canvas((-0.6, -1.06, 0.6, 0.04), pixels_per_unit)
    wood = _WOODS[int(rng.integers(len(_WOODS)))]
    half, deep, seat = rng.uniform(0.3, 0.4), rng.uniform(0.08, 0.16), rng.uniform(-0.5, -0.42)
    for x, foot, dark in ((-half, -deep, 0.7), (half - 0.12, -deep, 0.7)):
        paint_limb(canvas, rng, (x, seat - deep), (x, foot), (0.06, 0.05), darker(wood, dark))
    back = [(-half, seat - deep), (-half - 0.03, -1.0), (half - 0.18, -1.0), (half - 0.12, seat)]
    paint_surface(canvas, rng, back, darker(wood, 0.85))
    for x in (-half + 0.12, half):
        paint_limb(canvas, rng, (x, seat), (x, 0.0), (0.07, 0.055), wood)
    top = [(-half, seat - deep), (half - 0.12, seat - deep), (half, seat), (-half + 0.12, seat)]
    cloth = pick_colour(rng)
    paint_surface(canvas, rng, top, cloth, blend=pattern(canvas, rng), rounded=0.03)
    paint_surface(canvas, rng, slab(-half + 0.12, seat, half, seat + 0.06), darker(wood, 0.9))
    return canvas.finish()
