"""The six kinds of fish: how each looks, how large it is and how it swims.

A fish is drawn in side view with its nose at u = 0, its tail at u = 1 and its middle at v = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from amodal2.data.synthetic.fish_drawings import (
    draw_angelfish,
    draw_betta,
    draw_clownfish,
    draw_pike,
    draw_pufferfish,
    draw_surgeonfish,
)
from amodal2.data.synthetic.fish_parts import RGB, paint_fin
from amodal2.data.synthetic.sprite import Canvas, Sprite


@dataclass(frozen=True)
class Species:
    """A category of the aquarium.

    Attributes:
        name (str): category name.
        length (tuple[float, float]): range of the body length in image widths.
        half_height (float): reach of the drawing above and below the middle, in body lengths.
        girth (float): thickness seen from the front, in body lengths.
        amplitude (float): swing of the body wave at the tail, in body lengths.
        wavelength (float): of the body wave, in body lengths.
        beat (tuple[float, float]): range of the tail beat in cycles per frame.
        ripple (float): how far the fins' edges lag, per unit of distance to the middle.
        speed (tuple[float, float]): range in image widths per frame.
        pectoral (tuple[float, float, float]): root (u, v) and length of the side fin.
        pectoral_colour (RGB): of the side fin.
        draw (Callable): paints the body on a canvas.
    """

    name: str
    length: tuple[float, float]
    half_height: float
    girth: float
    amplitude: float
    wavelength: float
    beat: tuple[float, float]
    ripple: float
    speed: tuple[float, float]
    pectoral: tuple[float, float, float]
    pectoral_colour: RGB
    draw: Callable[[Canvas, np.random.Generator], None]


@dataclass(frozen=True)
class Look:
    """One individual: the pictures of its body and of its side fin (root at (0, 0))."""

    body: Sprite
    pectoral: Sprite


def draw_individual(species: Species, rng: np.random.Generator, pixels_per_unit: float) -> Look:
    """Draw one fish with its own pattern, hue and brightness.

    Args:
        species (Species): its kind.
        rng (np.random.Generator): source of the individual's features.
        pixels_per_unit (float): resolution, pixels per body length.

    Returns:
        Look: its sprites.
    """
    reach = species.half_height
    canvas = Canvas((-0.04, -reach, 1.06, reach), pixels_per_unit)
    hue = rng.uniform(-9.0, 9.0)
    saturation = rng.uniform(0.82, 1.15)
    value = rng.uniform(0.84, 1.1)
    species.draw(canvas, rng)
    canvas.shade(1.0 + 0.16 * (canvas.noise(rng, 14.0) - 0.5))
    canvas.vary(hue, saturation, value)
    fin = _draw_pectoral(species, pixels_per_unit)
    fin.vary(hue, saturation, value)
    return Look(canvas.finish(), fin.finish())


def _draw_pectoral(species: Species, pixels_per_unit: float) -> Canvas:
    """Draw the side fin, which points to the tail."""
    length = species.pectoral[2]
    canvas = Canvas((-0.03, -length, length * 1.2, length), pixels_per_unit)
    outline = [
        (-0.01, -0.12 * length),
        (0.55 * length, -0.42 * length),
        (length, -0.2 * length),
        (0.95 * length, 0.3 * length),
        (0.5 * length, 0.4 * length),
        (-0.01, 0.14 * length),
    ]
    paint_fin(canvas, outline, species.pectoral_colour, (-0.3 * length, 0.0), rays=34.0)
    return canvas


SPECIES: tuple[Species, ...] = (
    Species(
        "clownfish",
        (0.2, 0.28),
        0.36,
        0.26,
        0.035,
        1.1,
        (0.1, 0.16),
        0.1,
        (0.006, 0.013),
        (0.36, 0.05, 0.17),
        (0.98, 0.5, 0.1),
        draw_clownfish,
    ),
    Species(
        "angelfish",
        (0.2, 0.29),
        0.68,
        0.2,
        0.028,
        1.5,
        (0.07, 0.11),
        0.22,
        (0.004, 0.01),
        (0.3, 0.03, 0.15),
        (0.85, 0.86, 0.8),
        draw_angelfish,
    ),
    Species(
        "surgeonfish",
        (0.24, 0.34),
        0.4,
        0.2,
        0.03,
        1.2,
        (0.09, 0.14),
        0.08,
        (0.006, 0.014),
        (0.29, 0.05, 0.17),
        (0.98, 0.85, 0.15),
        draw_surgeonfish,
    ),
    Species(
        "pike",
        (0.34, 0.44),
        0.24,
        0.16,
        0.05,
        0.9,
        (0.07, 0.12),
        0.06,
        (0.007, 0.016),
        (0.23, 0.035, 0.1),
        (0.55, 0.58, 0.2),
        draw_pike,
    ),
    Species(
        "pufferfish",
        (0.2, 0.3),
        0.44,
        0.5,
        0.02,
        1.6,
        (0.08, 0.12),
        0.06,
        (0.004, 0.01),
        (0.36, 0.06, 0.19),
        (0.92, 0.78, 0.36),
        draw_pufferfish,
    ),
    Species(
        "betta",
        (0.25, 0.35),
        0.52,
        0.22,
        0.045,
        1.0,
        (0.06, 0.1),
        0.3,
        (0.005, 0.011),
        (0.22, 0.04, 0.15),
        (0.92, 0.3, 0.5),
        draw_betta,
    ),
)
