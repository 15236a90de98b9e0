"""The six kinds of fish: how each looks, how large it is and how it swims.

A fish is drawn in side view with its nose at u = 0, its tail at u = 1 and its middle at v = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from amodal2.data.synthetic.noise import FloatImage
from amodal2.data.synthetic.sprite import Canvas, Points, Sprite

RGB = tuple[float, float, float]


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
    _fin(canvas, outline, species.pectoral_colour, (-0.3 * length, 0.0), rays=34.0)
    return canvas


def _fin(
    canvas: Canvas,
    outline: Points,
    colour: RGB,
    base: tuple[float, float],
    *,
    rays: float = 40.0,
    edge: RGB | None = None,
) -> FloatImage:
    """Paint a fin with rays that spread from ``base``; return its coverage."""
    mask = canvas.polygon(outline)
    angle = np.arctan2(canvas.v - base[1], canvas.u - base[0])
    shade = (0.86 + 0.2 * np.sin(angle * rays)) * canvas.rounding(mask, 0.03, 0.6)
    canvas.paint(mask, np.asarray(colour, np.float32) * shade[..., None])
    if edge is not None:
        rim = mask * np.clip(3.0 - 4.0 * canvas.rounding(mask, 0.05, 0.0), 0.0, 1.0)
        canvas.tint(rim, edge)
    return mask


def _body(canvas: Canvas, top: Points, bottom: Points, back: RGB, belly: RGB) -> FloatImage:
    """Paint a rounded body whose colour runs from back to belly; return its coverage."""
    mask = canvas.polygon([*top, *reversed(bottom)])
    low = min(v for _, v in top)
    high = max(v for _, v in bottom)
    blend = np.clip((canvas.v - low) / (high - low), 0.0, 1.0) ** 1.3
    blend = blend * blend * (3.0 - 2.0 * blend)
    upper, lower = np.asarray(back, np.float32), np.asarray(belly, np.float32)
    colour = upper + (lower - upper) * blend[..., None]
    canvas.paint(mask, colour)
    return mask


def _round_body(canvas: Canvas, mask: FloatImage, depth: float = 0.09) -> None:
    """Shade the body's pixels as a rounded volume lit from above."""
    factor = canvas.rounding(mask, depth, 0.5) * (1.1 - 0.45 * np.clip(canvas.v / 0.4, -0.5, 0.8))
    canvas.shade(1.0 + mask * (factor - 1.0))


def _scales(canvas: Canvas, mask: FloatImage, size: float, strength: float) -> None:
    """Modulate the body's brightness in a lattice of scales of material ``size``."""
    a = np.abs(np.sin(np.pi * (canvas.u + 0.6 * canvas.v) / size))
    b = np.abs(np.sin(np.pi * (canvas.u - 0.6 * canvas.v) / size))
    canvas.shade(1.0 + mask * strength * (np.minimum(a, b) * 2.0 - 0.9))


def _face(
    canvas: Canvas, eye: tuple[float, float], radius: float, gill: float, iris: RGB, mouth: Points
) -> None:
    """Paint eye, gill cover and mouth."""
    arc = np.linspace(-1.0, 1.0, 12)
    reach = 4.0 * radius
    curve = [(gill - 0.05 * a * a, eye[1] + 0.4 * reach + reach * a) for a in arc]
    canvas.tint(0.45 * canvas.line(curve, 0.012), (0.08, 0.06, 0.06))
    canvas.tint(0.7 * canvas.line(mouth, 0.014), (0.12, 0.06, 0.06))
    canvas.tint(canvas.disc(eye, radius * 1.15), (0.05, 0.05, 0.05))
    canvas.tint(canvas.disc(eye, radius), iris)
    canvas.tint(canvas.disc(eye, radius * 0.6), (0.02, 0.02, 0.03))
    glint = (eye[0] - 0.3 * radius, eye[1] - 0.35 * radius)
    canvas.tint(canvas.disc(glint, radius * 0.26), (1.0, 1.0, 1.0))


def _draw_clownfish(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a plump orange fish with white, black-edged bands and dark-rimmed fins."""
    orange, dark = (0.96, 0.4, 0.04), (0.06, 0.03, 0.02)
    tall = rng.uniform(0.92, 1.1)
    tail = [(0.74, -0.04), (0.86, -0.14), (0.97, -0.13), (1.0, 0.0), (0.97, 0.13), (0.86, 0.14)]
    _fin(canvas, [*tail, (0.74, 0.04)], orange, (0.6, 0.0), edge=dark)
    dorsal = [(0.24, -0.1), (0.3, -0.26 * tall), (0.44, -0.27 * tall), (0.52, -0.23 * tall)]
    dorsal += [(0.62, -0.27 * tall), (0.73, -0.2), (0.74, -0.06)]
    _fin(canvas, dorsal, orange, (0.3, 0.3), rays=60.0, edge=dark)
    _fin(canvas, [(0.5, 0.1), (0.58, 0.26 * tall), (0.7, 0.22), (0.74, 0.06)], orange,
         (0.45, -0.2), rays=60.0, edge=dark)
    _fin(canvas, [(0.3, 0.12), (0.36, 0.28), (0.46, 0.27), (0.44, 0.12)], orange,
         (0.3, 0.0), rays=40.0, edge=dark)
    top = [(0.0, 0.01), (0.07, -0.09 * tall), (0.2, -0.18 * tall), (0.38, -0.21 * tall),
           (0.56, -0.17 * tall), (0.7, -0.09), (0.8, -0.06)]
    bottom = [(0.02, 0.05), (0.1, 0.11 * tall), (0.22, 0.18 * tall), (0.38, 0.2 * tall),
              (0.56, 0.16 * tall), (0.7, 0.09), (0.8, 0.06)]
    body = _body(canvas, top, bottom, (0.93, 0.33, 0.02), (1.0, 0.56, 0.12))
    wobble = 0.03 * (canvas.noise(rng, 5.0) - 0.5)
    whole = np.maximum(body, canvas.alpha)
    bands = [(0.24, 0.04, 1.0), (0.5, 0.05, -0.8), (0.75, 0.025, 0.4)]
    for centre, half, bow in bands[: int(rng.integers(2, 4))]:
        offset = rng.uniform(-0.015, 0.015)
        half *= rng.uniform(0.8, 1.25)
        across = np.abs(canvas.u + wobble - centre - offset + bow * canvas.v**2)
        canvas.tint(whole * np.clip((half + 0.02 - across) * 120, 0, 1), dark)
        canvas.tint(whole * np.clip((half - across) * 120, 0, 1), (0.97, 0.96, 0.93))
    _scales(canvas, body, 0.035, 0.1)
    _round_body(canvas, body)
    _face(canvas, (0.1, -0.035), 0.03, 0.21, (0.95, 0.6, 0.2), [(0.0, 0.035), (0.05, 0.05)])


def _draw_angelfish(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a tall silver diamond with long swept fins and dark bars."""
    silver, dark = (0.82, 0.84, 0.86), (0.1, 0.1, 0.13)
    reach = rng.uniform(0.5, 0.6)
    _fin(canvas, [(0.68, -0.05), (0.84, -0.14), (1.0, -0.2), (0.95, 0.0), (1.0, 0.2), (0.84, 0.14),
                  (0.68, 0.05)], (0.74, 0.76, 0.8), (0.55, 0.0), rays=46.0)
    for side in (-1.0, 1.0):
        sweep = [(0.32, side * 0.2), (0.5, side * 0.42), (0.72, side * reach),
                 (0.9, side * (reach + 0.04)), (0.76, side * 0.36), (0.7, side * 0.1)]
        _fin(canvas, sweep, (0.8, 0.8, 0.78), (0.3, 0.0), rays=44.0)
    streamer = [(0.3, 0.2), (0.36, 0.4), (0.46, 0.58), (0.42, 0.38), (0.37, 0.2)]
    _fin(canvas, streamer, (0.9, 0.88, 0.8), (0.3, 0.0))
    top = [(0.0, 0.01), (0.08, -0.08), (0.2, -0.2), (0.38, -0.31), (0.52, -0.26), (0.64, -0.12),
           (0.74, -0.05)]
    bottom = [(0.02, 0.04), (0.1, 0.1), (0.22, 0.21), (0.38, 0.3), (0.52, 0.25), (0.64, 0.12),
              (0.74, 0.05)]
    body = _body(canvas, top, bottom, (0.72, 0.66, 0.42), silver)
    whole = canvas.alpha.copy()
    wobble = 0.025 * (canvas.noise(rng, 6.0) - 0.5)
    positions = [0.1, 0.3, 0.5, 0.68]
    for index, centre in enumerate(positions):
        if index == 2 and rng.random() < 0.3:
            continue
        half = rng.uniform(0.022, 0.045)
        lean = 0.25 * np.abs(canvas.v) if index else 0.0
        across = np.abs(canvas.u + wobble - centre - rng.uniform(-0.02, 0.02) - lean)
        canvas.tint(0.92 * whole * np.clip((half - across) * 70, 0, 1), dark)
    _scales(canvas, body, 0.03, 0.12)
    _round_body(canvas, body, 0.14)
    _face(canvas, (0.11, -0.03), 0.032, 0.22, (0.85, 0.25, 0.15), [(0.0, 0.03), (0.045, 0.035)])


def _draw_surgeonfish(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a blue oval with a black sweep over its flank and a yellow crescent tail."""
    blue, yellow, dark = (0.06, 0.2, 0.88), (0.98, 0.83, 0.06), (0.02, 0.02, 0.06)
    _fin(canvas, [(0.78, -0.035), (0.88, -0.1), (1.02, -0.23), (0.94, -0.07), (0.93, 0.0),
                  (0.94, 0.07), (1.02, 0.23), (0.88, 0.1), (0.78, 0.035)], yellow, (0.7, 0.0),
         edge=dark)
    for side in (-1.0, 1.0):
        edge = [(0.2, side * 0.16), (0.26, side * 0.28), (0.45, side * 0.32), (0.66, side * 0.25),
                (0.76, side * 0.14), (0.76, side * 0.05)]
        _fin(canvas, edge, (0.05, 0.14, 0.7), (0.3, 0.0), rays=64.0, edge=dark)
    top = [(0.0, 0.03), (0.05, -0.07), (0.16, -0.19), (0.34, -0.25), (0.54, -0.21), (0.7, -0.1),
           (0.82, -0.04)]
    bottom = [(0.02, 0.07), (0.07, 0.11), (0.18, 0.2), (0.34, 0.245), (0.54, 0.2), (0.7, 0.1),
              (0.82, 0.04)]
    body = _body(canvas, top, bottom, blue, (0.16, 0.36, 0.98))
    bend = rng.uniform(-0.03, 0.03)
    upper = canvas.polygon([(0.16, -0.06), (0.3, -0.16), (0.5, -0.16), (0.7, -0.07), (0.84, -0.02),
                            (0.84, 0.02), (0.68, 0.04), (0.52, 0.06 + bend), (0.36, 0.02 + bend),
                            (0.26, -0.05)])
    hole = canvas.polygon([(0.34, -0.07), (0.44, -0.1), (0.56, -0.07), (0.5, -0.02 + bend),
                           (0.4, -0.02 + bend)])
    size = rng.uniform(0.6, 1.0)
    canvas.tint(body * np.clip(upper - size * hole, 0.0, 1.0), dark)
    wedge = canvas.polygon([(0.7, 0.0), (0.78, -0.03), (0.86, -0.04), (0.86, 0.04), (0.78, 0.03)])
    canvas.tint(body * wedge, yellow)
    _scales(canvas, body, 0.022, 0.14)
    _round_body(canvas, body, 0.12)
    _face(canvas, (0.12, -0.06), 0.026, 0.22, (0.9, 0.85, 0.6), [(0.005, 0.05), (0.04, 0.055)])


def _draw_pike(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a long green hunter with pale flecks and its fins far back."""
    green, fin = (0.2, 0.46, 0.16), (0.42, 0.5, 0.16)
    _fin(canvas, [(0.85, -0.025), (0.92, -0.07), (1.02, -0.11), (0.965, 0.0), (1.02, 0.11),
                  (0.92, 0.07), (0.85, 0.025)], fin, (0.8, 0.0), rays=30.0)
    for side in (-1.0, 1.0):
        _fin(canvas, [(0.68, side * 0.04), (0.71, side * 0.13), (0.79, side * 0.14),
                      (0.83, side * 0.09), (0.82, side * 0.03)], fin, (0.66, 0.0), rays=36.0)
    _fin(canvas, [(0.46, 0.05), (0.49, 0.115), (0.55, 0.11), (0.53, 0.05)], fin, (0.44, 0.0))
    top = [(0.0, 0.0), (0.08, -0.022), (0.17, -0.045), (0.3, -0.075), (0.5, -0.08), (0.7, -0.06),
           (0.82, -0.03), (0.88, -0.028)]
    bottom = [(0.0, 0.018), (0.08, 0.03), (0.17, 0.052), (0.3, 0.075), (0.5, 0.078), (0.7, 0.055),
              (0.82, 0.03), (0.88, 0.028)]
    body = _body(canvas, top, bottom, green, (0.86, 0.88, 0.62))
    columns = int(rng.integers(15, 23))
    centres, radii = [], []
    for row, v in enumerate((-0.05, -0.022, 0.006, 0.03)):
        for column in range(columns):
            u = 0.18 + 0.68 * (column + 0.5 * (row % 2)) / columns + rng.uniform(-0.008, 0.008)
            centres.append((u, v + rng.uniform(-0.006, 0.006)))
            radii.append(rng.uniform(0.005, 0.012))
    canvas.tint(0.85 * body * canvas.discs(centres, radii), (0.8, 0.9, 0.42))
    bars = np.sin(canvas.u * rng.uniform(40.0, 60.0) + 3.0 * canvas.noise(rng, 4.0))
    canvas.shade(1.0 - body * 0.3 * np.clip(bars, 0, 1) * np.clip(0.6 - canvas.v / 0.08, 0, 1))
    _round_body(canvas, body, 0.05)
    _face(canvas, (0.125, -0.012), 0.018, 0.22, (0.9, 0.75, 0.2), [(0.0, 0.012), (0.1, 0.02)])


def _draw_pufferfish(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a yellow ball with brown spots, a pale belly and short spines."""
    yellow, brown = (0.88, 0.7, 0.16), (0.3, 0.17, 0.06)
    fin = (0.9, 0.74, 0.3)
    _fin(canvas, [(0.78, -0.04), (0.88, -0.11), (0.99, -0.1), (1.0, 0.0), (0.99, 0.1),
                  (0.88, 0.11), (0.78, 0.04)], fin, (0.7, 0.0), rays=26.0)
    _fin(canvas, [(0.6, -0.16), (0.68, -0.29), (0.78, -0.26), (0.74, -0.1)], fin, (0.6, 0.0))
    _fin(canvas, [(0.62, 0.16), (0.7, 0.28), (0.78, 0.24), (0.74, 0.1)], fin, (0.6, 0.0))
    fat = rng.uniform(0.92, 1.1)
    for angle in np.linspace(0.25, 2.0 * np.pi - 0.25, 27):
        if abs(angle - np.pi) < 0.5:
            continue
        ray = np.array([0.34 * np.cos(angle), 0.29 * fat * np.sin(angle)])
        side = np.array([-np.sin(angle), np.cos(angle)]) * 0.02
        foot = ray * 0.9 + (0.36, 0.0)
        spine = [tuple(foot + side), tuple(ray * 1.16 + (0.36, 0.0)), tuple(foot - side)]
        canvas.paint(canvas.polygon(spine, smooth=False), (0.7, 0.55, 0.2))
    top = [(0.0, 0.0), (0.05, -0.09), (0.16, -0.21 * fat), (0.34, -0.29 * fat),
           (0.52, -0.24 * fat), (0.68, -0.12), (0.82, -0.055)]
    bottom = [(0.02, 0.04), (0.07, 0.14), (0.18, 0.26 * fat), (0.36, 0.32 * fat),
              (0.54, 0.26 * fat), (0.68, 0.12), (0.82, 0.055)]
    body = _body(canvas, top, bottom, yellow, (0.97, 0.94, 0.84))
    count = int(rng.integers(28, 46))
    centres = [(rng.uniform(0.1, 0.8), rng.uniform(-0.3, 0.1)) for _ in range(count)]
    radii = [rng.uniform(0.012, 0.034) * (1.0 - 1.2 * max(v, 0.0) / 0.2) for _, v in centres]
    canvas.tint(0.9 * body * canvas.discs(centres, radii), brown)
    _round_body(canvas, body, 0.16)
    _face(canvas, (0.14, -0.06), 0.045, 0.27, (0.95, 0.9, 0.5), [(0.0, 0.02), (0.035, 0.03)])


def _draw_betta(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a slim violet body with huge, wavy crimson veils."""
    deep, veil = (0.34, 0.06, 0.42), (0.86, 0.08, 0.34)
    pale = (0.95, 0.45, 0.68)
    big = rng.uniform(0.9, 1.1)
    tail = [(0.5, -0.06)]
    for step, angle in enumerate(np.linspace(-1.05, 1.05, 11)):
        radius = 0.46 + (0.045 if step % 2 else -0.015)
        tail.append((0.54 + radius * np.cos(angle), 0.9 * big * radius * np.sin(angle)))
    tail.append((0.5, 0.06))
    _fin(canvas, tail, veil, (0.45, 0.0), rays=52.0, edge=pale)
    dorsal = [(0.32, -0.08), (0.36, -0.3 * big), (0.46, -0.4 * big), (0.58, -0.37 * big),
              (0.64, -0.26), (0.6, -0.06)]
    _fin(canvas, dorsal, (0.74, 0.06, 0.36), (0.36, 0.1), rays=56.0, edge=pale)
    anal = [(0.26, 0.08), (0.34, 0.28 * big), (0.5, 0.4 * big), (0.64, 0.4 * big), (0.66, 0.2),
            (0.6, 0.05)]
    _fin(canvas, anal, (0.78, 0.06, 0.4), (0.3, -0.1), rays=56.0, edge=pale)
    _fin(canvas, [(0.2, 0.09), (0.26, 0.3), (0.33, 0.36), (0.3, 0.2), (0.28, 0.08)], veil,
         (0.2, 0.0))
    top = [(0.0, 0.0), (0.07, -0.06), (0.18, -0.11), (0.32, -0.13), (0.46, -0.1), (0.6, -0.06)]
    bottom = [(0.02, 0.03), (0.08, 0.07), (0.18, 0.115), (0.32, 0.13), (0.46, 0.1), (0.6, 0.06)]
    body = _body(canvas, top, bottom, deep, (0.56, 0.12, 0.6))
    shine = np.clip(canvas.noise(rng, 5.0) * 2.0 - 0.8, 0.0, 1.0)
    canvas.tint(0.55 * body * shine, (0.45, 0.35, 0.95))
    _scales(canvas, body, 0.034, 0.3)
    streaks = canvas.noise(rng, 9.0)
    canvas.shade(1.0 + (1.0 - body) * 0.5 * (streaks - 0.5))
    _round_body(canvas, body, 0.08)
    _face(canvas, (0.085, -0.02), 0.026, 0.18, (0.9, 0.9, 0.5), [(0.0, 0.02), (0.04, 0.028)])


SPECIES: tuple[Species, ...] = (
    Species("clownfish", (0.2, 0.28), 0.36, 0.26, 0.035, 1.1, (0.1, 0.16), 0.1,
            (0.006, 0.013), (0.36, 0.05, 0.17), (0.98, 0.5, 0.1), _draw_clownfish),
    Species("angelfish", (0.2, 0.29), 0.68, 0.2, 0.028, 1.5, (0.07, 0.11), 0.22,
            (0.004, 0.01), (0.3, 0.03, 0.15), (0.85, 0.86, 0.8), _draw_angelfish),
    Species("surgeonfish", (0.24, 0.34), 0.4, 0.2, 0.03, 1.2, (0.09, 0.14), 0.08,
            (0.006, 0.014), (0.29, 0.05, 0.17), (0.98, 0.85, 0.15), _draw_surgeonfish),
    Species("pike", (0.34, 0.44), 0.24, 0.16, 0.05, 0.9, (0.07, 0.12), 0.06,
            (0.007, 0.016), (0.23, 0.035, 0.1), (0.55, 0.58, 0.2), _draw_pike),
    Species("pufferfish", (0.2, 0.3), 0.44, 0.5, 0.02, 1.6, (0.08, 0.12), 0.06,
            (0.004, 0.01), (0.36, 0.06, 0.19), (0.92, 0.78, 0.36), _draw_pufferfish),
    Species("betta", (0.25, 0.35), 0.52, 0.22, 0.045, 1.0, (0.06, 0.1), 0.3,
            (0.005, 0.011), (0.22, 0.04, 0.15), (0.92, 0.3, 0.5), _draw_betta),
)
