"""Parts that the drawings of all fish share: fins, bodies, scales and faces.

Coordinates are a fish's material ones: nose at u = 0, tail at u = 1, middle at v = 0.
"""

from __future__ import annotations

import numpy as np

from amodal2.data.synthetic.noise import FloatImage
from amodal2.data.synthetic.sprite import Canvas, Points

RGB = tuple[float, float, float]


def paint_fin(
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


def paint_body(canvas: Canvas, top: Points, bottom: Points, back: RGB, belly: RGB) -> FloatImage:
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


def round_body(canvas: Canvas, mask: FloatImage, depth: float = 0.09) -> None:
    """Shade the body's pixels as a rounded volume lit from above."""
    factor = canvas.rounding(mask, depth, 0.5) * (1.1 - 0.45 * np.clip(canvas.v / 0.4, -0.5, 0.8))
    canvas.shade(1.0 + mask * (factor - 1.0))


def paint_scales(canvas: Canvas, mask: FloatImage, size: float, strength: float) -> None:
    """Modulate the body's brightness in a lattice of scales of material ``size``."""
    a = np.abs(np.sin(np.pi * (canvas.u + 0.6 * canvas.v) / size))
    b = np.abs(np.sin(np.pi * (canvas.u - 0.6 * canvas.v) / size))
    canvas.shade(1.0 + mask * strength * (np.minimum(a, b) * 2.0 - 0.9))


def paint_face(
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
