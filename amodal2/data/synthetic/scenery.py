"""Rocks, corals and plants: things that hide fish and are not annotated.

All are drawn standing on v = 0 with their top near v = -1 and u = 0 in the middle; a unit is the
thing's height.
"""

from __future__ import annotations

import cv2
import numpy as np

from amodal2.data.synthetic.noise import FloatImage, fractal_noise
from amodal2.data.synthetic.sprite import Canvas, Sprite

_ROCK_COLOURS = (
    ((0.42, 0.4, 0.38), (0.25, 0.33, 0.16)),
    ((0.5, 0.4, 0.3), (0.32, 0.36, 0.16)),
    ((0.32, 0.34, 0.4), (0.2, 0.34, 0.26)),
    ((0.55, 0.5, 0.44), (0.4, 0.38, 0.2)),
)
_CORAL_COLOURS = (
    ((0.78, 0.36, 0.42), (0.95, 0.62, 0.6)),
    ((0.5, 0.3, 0.56), (0.74, 0.56, 0.8)),
    ((0.7, 0.44, 0.24), (0.92, 0.7, 0.42)),
)
_LEAF_COLOURS = (
    (0.16, 0.42, 0.12),
    (0.3, 0.46, 0.1),
    (0.1, 0.36, 0.24),
    (0.42, 0.36, 0.1),
    (0.46, 0.16, 0.14),
)


def draw_rock(
    rng: np.random.Generator, width: float, pixels_per_unit: float, *, coral: bool = False
) -> Sprite:
    """Draw a boulder, or a dome of coral, with a light from above.

    Args:
        rng (np.random.Generator): source of shape and texture.
        width (float): width over height.
        pixels_per_unit (float): resolution, pixels per height.
        coral (bool): paint wound ridges in bright colours instead of stone and moss.

    Returns:
        Sprite: the picture.
    """
    half = width / 2
    canvas = Canvas((-half * 1.12, -1.08, half * 1.12, 0.04), pixels_per_unit)
    outline = [(0.0, 0.03), (half * 0.6, 0.02), (half * 0.97, -0.05)]
    rough = 0.03 if coral else 0.085
    squareness = rng.uniform(0.55, 0.8)
    for angle in np.linspace(0.14, np.pi - 0.14, 15):
        c, s = np.cos(angle), np.sin(angle)
        reach = 1.0 + rng.uniform(-rough, rough)
        outline.append((half * reach * np.sign(c) * abs(c) ** squareness, -reach * s**squareness))
    outline += [(-half * 0.97, -0.05), (-half * 0.6, 0.02)]
    mask = canvas.polygon(outline)
    height, columns = mask.shape
    relief = fractal_noise(rng, height, columns, 3.0 * width, octaves=5, persistence=0.6)
    if coral:
        waves = np.sin(relief * rng.uniform(50.0, 75.0))
        relief = relief + 0.05 * waves
    dome = np.sqrt(np.clip(1.0 - (canvas.u / half) ** 2, 0.0, 1.0)) * np.clip(1.2 + canvas.v, 0, 1)
    light = _lit(1.6 * relief + 0.8 * dome, pixels_per_unit)
    low, high = (_CORAL_COLOURS if coral else _ROCK_COLOURS)[
        int(rng.integers(len(_CORAL_COLOURS if coral else _ROCK_COLOURS)))
    ]
    moss = fractal_noise(rng, height, columns, 5.0 * width)
    blend = (
        np.clip(0.5 + 0.8 * np.sin(relief * 60.0), 0.0, 1.0)
        if coral
        else np.clip((moss - 0.52 - 0.25 * canvas.v) * 4.0 - 0.6, 0.0, 0.85)
    )[..., None]
    colour = np.asarray(low, np.float32) * (1 - blend) + np.asarray(high, np.float32) * blend
    factor = light * canvas.rounding(mask, 0.14, 0.45) * rng.uniform(0.85, 1.15)
    canvas.paint(mask, colour * factor[..., None].astype(np.float32))
    canvas.vary(rng.uniform(-8, 8), rng.uniform(0.8, 1.15), 1.0)
    return canvas.finish()


def _lit(relief: FloatImage, scale: float) -> FloatImage:
    """Light a height field (float32 [h, w]) from the upper left; about 0.4 to 1.4."""
    smooth = cv2.GaussianBlur(relief.astype(np.float32), (0, 0), max(scale / 90.0, 0.6))
    dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3) * np.float32(scale / 40.0)
    dy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3) * np.float32(scale / 40.0)
    return np.clip(0.92 + 0.5 * dx + 0.9 * dy, 0.4, 1.4) * (0.7 + 0.3 * relief / relief.max())


def draw_kelp(rng: np.random.Generator, width: float, pixels_per_unit: float) -> Sprite:
    """Draw a clump of tall ribbons.

    Args:
        rng (np.random.Generator): source of shape and colour.
        width (float): width over height.
        pixels_per_unit (float): resolution, pixels per height.

    Returns:
        Sprite: the picture.
    """
    canvas = Canvas((-width * 0.8, -1.06, width * 0.8, 0.03), pixels_per_unit)
    base = np.asarray(_LEAF_COLOURS[int(rng.integers(len(_LEAF_COLOURS)))], np.float32)
    count = int(rng.integers(5, 9))
    order = rng.permutation(count)
    for rank, index in enumerate(order):
        foot = width * 0.4 * (2.0 * (index + 0.5) / count - 1.0)
        height = rng.uniform(0.6, 1.0) if rank else 1.0
        thick = rng.uniform(0.1, 0.17) * width
        bend, waves, phase = rng.uniform(-0.2, 0.2) * width, rng.uniform(5, 8), rng.uniform(0, 6.3)
        h = np.linspace(0.0, 1.0, 24)
        middle = foot + bend * h * h + 0.05 * width * np.sin(waves * h + phase)
        half = thick * np.sqrt(np.clip(1.0 - h, 0, 1)) * (0.55 + 0.6 * np.minimum(h * 5, 1))
        half = half * (1.0 + 0.16 * np.sin(h * 42.0 + phase)) * 0.5
        left = list(zip(middle - half, -height * h, strict=True))
        right = list(zip(middle + half, -height * h, strict=True))
        mask = canvas.polygon([(float(a), float(b)) for a, b in [*left, *reversed(right)]])
        across = canvas.u - np.interp(-canvas.v / height, h, middle).astype(np.float32)
        rib = 1.0 - 0.35 * np.exp(-((across / (0.1 * thick)) ** 2))
        shade = rng.uniform(0.7, 1.25) * rib * canvas.rounding(mask, 0.25 * thick, 0.55)
        shade = shade * (0.75 - 0.45 * canvas.v) * (1.0 + 0.12 * np.sin(canvas.v * 130.0 + phase))
        canvas.paint(mask, base * shade[..., None].astype(np.float32))
    return canvas.finish()


def draw_bush(rng: np.random.Generator, width: float, pixels_per_unit: float) -> Sprite:
    """Draw a dense plant of many broad leaves.

    Args:
        rng (np.random.Generator): source of shape and colour.
        width (float): width over height.
        pixels_per_unit (float): resolution, pixels per height.

    Returns:
        Sprite: the picture.
    """
    half = width / 2
    canvas = Canvas((-half * 1.25, -1.1, half * 1.25, 0.04), pixels_per_unit)
    base = np.asarray(_LEAF_COLOURS[int(rng.integers(len(_LEAF_COLOURS)))], np.float32)
    core = canvas.polygon(
        [
            (half * 0.4, 0.01),
            (half * 0.76, -0.12),
            (half * 0.85, -0.38),
            (half * 0.5, -0.75),
            (0.0, -0.86),
            (-half * 0.5, -0.75),
            (-half * 0.85, -0.38),
            (-half * 0.76, -0.12),
            (-half * 0.4, 0.01),
        ]
    )
    canvas.paint(core, base * 0.42)
    rows = 8
    size = rng.uniform(0.2, 0.27)
    for row in range(rows):
        level = 1.0 - row / (rows - 1)
        spread = half * np.sqrt(max(1.05 - level**2, 0.08))
        count = max(3, round(2.6 * spread / size) + 2)
        for k in range(count):
            place = 2.0 * (k + rng.uniform(0.2, 0.8)) / count - 1.0
            u, v = place * spread * 0.86, -0.82 * level - 0.08 + rng.uniform(-0.05, 0.05)
            lean = 0.9 * place + rng.uniform(-0.35, 0.35)
            _leaf(canvas, (u, v), lean, size * rng.uniform(0.8, 1.2), base * rng.uniform(0.6, 1.35))
    canvas.vary(rng.uniform(-10, 10), rng.uniform(0.85, 1.15), 1.0)
    return canvas.finish()


def _leaf(
    canvas: Canvas, foot: tuple[float, float], lean: float, size: float, colour: FloatImage
) -> None:
    """Paint one leaf that grows from ``foot``, ``lean`` radians from upright."""
    along = np.array([np.sin(lean), -np.cos(lean)])
    side = np.array([along[1], -along[0]])
    shape = ((-0.1, 0.0), (0.25, 0.24), (0.6, 0.24), (1.0, 0.0), (0.6, -0.24), (0.25, -0.24))
    points = [tuple(np.asarray(foot) + size * (a * along + b * side)) for a, b in shape]
    part = canvas.window(foot, 1.15 * size)
    mask = part.polygon(points)
    u, v = part.u - foot[0], part.v - foot[1]
    across = (u * side[0] + v * side[1]) / size
    forward = np.clip((u * along[0] + v * along[1]) / size, 0.0, 1.0)
    vein = 1.0 - 0.3 * np.exp(-((across / 0.035) ** 2))
    shade = vein * (0.55 + 0.55 * forward) * (1.0 + 0.5 * across)
    part.paint(mask, colour * np.clip(shade, 0.2, 1.5)[..., None].astype(np.float32))
