"""Parts that the drawings of the market's things share: surfaces, legs and rounded slabs.

Things stand on v = 0 with their top near v = -1; a unit is the thing's height.
"""

from __future__ import annotations

import cv2
import numpy as np

from amodal2.data.synthetic.noise import FloatImage
from amodal2.data.synthetic.sprite import Canvas, Points

RGB = tuple[float, float, float]

_PATTERNS = ("plain", "stripes", "hoops", "checks", "spots")


def pick_colour(rng: np.random.Generator, saturation: tuple[float, float] = (0.35, 0.9)) -> RGB:
    """Draw a colour of any hue, 0..1 per channel; now and then a grey."""
    grey = rng.random() < 0.2
    hsv = [rng.uniform(0, 360), 0.05 if grey else rng.uniform(*saturation), rng.uniform(0.25, 0.95)]
    rgb = cv2.cvtColor(np.asarray(hsv, np.float32).reshape(1, 1, 3), cv2.COLOR_HSV2RGB)
    return float(rgb[0, 0, 0]), float(rgb[0, 0, 1]), float(rgb[0, 0, 2])


def darker(colour: RGB, factor: float) -> RGB:
    """Scale a colour; results above 1 are cut."""
    return min(colour[0] * factor, 1.0), min(colour[1] * factor, 1.0), min(colour[2] * factor, 1.0)


def pattern(canvas: Canvas, rng: np.random.Generator, kind: str | None = None) -> FloatImage:
    """Make a pattern that blends two colours.

    Args:
        canvas (Canvas): whose material coordinates the pattern follows.
        rng (np.random.Generator): source of its size and phase.
        kind (str | None): "plain", "stripes", "hoops", "checks" or "spots"; None draws one.

    Returns:
        float32 [h, w]: 0..1.
    """
    kind = kind or _PATTERNS[int(rng.integers(len(_PATTERNS)))]
    pitch, phase = rng.uniform(0.06, 0.16), rng.uniform(0, 2 * np.pi)
    turn = np.float32(2 * np.pi / pitch)
    across, along = np.sin(turn * canvas.u + np.float32(phase)), np.sin(turn * canvas.v)
    if kind == "plain":
        return np.zeros_like(canvas.u)
    if kind == "stripes":
        wave = across
    elif kind == "hoops":
        wave = along
    elif kind == "checks":
        wave = across * along * 3
    else:
        wave = 6 * (canvas.noise(rng, 1.4 / pitch, octaves=1) - np.float32(0.6))
    return np.clip(0.5 + 2 * wave, 0.0, 1.0)


def paint_surface(
    canvas: Canvas,
    rng: np.random.Generator,
    outline: Points,
    colour: RGB,
    *,
    smooth: bool = False,
    blend: FloatImage | None = None,
    second: RGB = (0.9, 0.9, 0.86),
    rounded: float = 0.08,
) -> FloatImage:
    """Paint a grained surface that is darker at its outline and lower down.

    Args:
        canvas (Canvas): what to paint on.
        rng (np.random.Generator): source of the grain.
        outline (Points): corners in material coordinates.
        colour (RGB): its colour.
        smooth (bool): bend the sides through the corners.
        blend (float32 [h, w] | None): share of ``second`` in the colour.
        second (RGB): second colour of the pattern.
        rounded (float): material distance over which the outline's shade fades.

    Returns:
        float32 [h, w]: coverage.
    """
    mask = canvas.polygon(outline, smooth=smooth)
    layer = np.broadcast_to(np.asarray(colour, np.float32), (*mask.shape, 3))
    if blend is not None:
        layer = layer + blend[..., None] * (np.asarray(second, np.float32) - layer)
    grain = 0.86 + 0.28 * canvas.noise(rng, 9.0)
    fall = 1.08 + 0.22 * np.clip(canvas.v + 0.4, -1.0, 0.5) * -1
    shade = grain * fall * canvas.rounding(mask, rounded, 0.62)
    canvas.paint(mask, np.clip(layer * shade[..., None], 0.0, 1.0))
    return mask


def slab(u0: float, v0: float, u1: float, v1: float, lean: float = 0.0) -> Points:
    """Return the corners of an upright rectangle whose top is moved by ``lean``."""
    return [(u0, v1), (u0 + lean, v0), (u1 + lean, v0), (u1, v1)]


def paint_limb(
    canvas: Canvas,
    rng: np.random.Generator,
    start: tuple[float, float],
    end: tuple[float, float],
    widths: tuple[float, float],
    colour: RGB,
) -> None:
    """Paint a straight limb that tapers from ``start`` to ``end``."""
    a, b = np.asarray(start), np.asarray(end)
    along = (b - a) / max(float(np.hypot(*(b - a))), 1e-6)
    side = np.array([-along[1], along[0]]) / 2
    first, last = side * widths[0], side * widths[1]
    corners = [a + first, a - first, b - last, b + last]
    outline = [(float(x), float(y)) for x, y in corners]
    paint_surface(canvas, rng, outline, colour, rounded=0.02)


def paint_wheel(canvas: Canvas, centre: tuple[float, float], radius: float, squeeze: float) -> None:
    """Paint a tyre with a rim; ``squeeze`` (0..1] narrows it, as seen from an angle."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for part, colour in ((1.0, (0.07, 0.07, 0.08)), (0.6, (0.6, 0.6, 0.63)), (0.22, (0.2,) * 3)):
        ring = [
            (centre[0] + squeeze * part * radius * c, centre[1] + part * radius * s)
            for c, s in zip(np.cos(angle), np.sin(angle), strict=True)
        ]
        canvas.paint(canvas.polygon(ring), colour)
