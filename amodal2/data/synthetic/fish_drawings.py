"""The six drawings of fish: body shape, pattern and colours of each kind."""

from __future__ import annotations

import numpy as np

from amodal2.data.synthetic.fish_parts import (
    paint_body,
    paint_face,
    paint_fin,
    paint_scales,
    round_body,
)
from amodal2.data.synthetic.sprite import Canvas


def draw_clownfish(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a plump orange fish with white, black-edged bands and dark-rimmed fins."""
    orange, dark = (0.96, 0.4, 0.04), (0.06, 0.03, 0.02)
    tall = rng.uniform(0.92, 1.1)
    tail = [(0.74, -0.04), (0.86, -0.14), (0.97, -0.13), (1.0, 0.0), (0.97, 0.13), (0.86, 0.14)]
    paint_fin(canvas, [*tail, (0.74, 0.04)], orange, (0.6, 0.0), edge=dark)
    dorsal = [(0.24, -0.1), (0.3, -0.26 * tall), (0.44, -0.27 * tall), (0.52, -0.23 * tall)]
    dorsal += [(0.62, -0.27 * tall), (0.73, -0.2), (0.74, -0.06)]
    paint_fin(canvas, dorsal, orange, (0.3, 0.3), rays=60.0, edge=dark)
    paint_fin(
        canvas,
        [(0.5, 0.1), (0.58, 0.26 * tall), (0.7, 0.22), (0.74, 0.06)],
        orange,
        (0.45, -0.2),
        rays=60.0,
        edge=dark,
    )
    paint_fin(
        canvas,
        [(0.3, 0.12), (0.36, 0.28), (0.46, 0.27), (0.44, 0.12)],
        orange,
        (0.3, 0.0),
        rays=40.0,
        edge=dark,
    )
    top = [
        (0.0, 0.01),
        (0.07, -0.09 * tall),
        (0.2, -0.18 * tall),
        (0.38, -0.21 * tall),
        (0.56, -0.17 * tall),
        (0.7, -0.09),
        (0.8, -0.06),
    ]
    bottom = [
        (0.02, 0.05),
        (0.1, 0.11 * tall),
        (0.22, 0.18 * tall),
        (0.38, 0.2 * tall),
        (0.56, 0.16 * tall),
        (0.7, 0.09),
        (0.8, 0.06),
    ]
    body = paint_body(canvas, top, bottom, (0.93, 0.33, 0.02), (1.0, 0.56, 0.12))
    wobble = 0.03 * (canvas.noise(rng, 5.0) - 0.5)
    whole = np.maximum(body, canvas.alpha)
    bands = [(0.24, 0.04, 1.0), (0.5, 0.05, -0.8), (0.75, 0.025, 0.4)]
    for centre, half, bow in bands[: int(rng.integers(2, 4))]:
        offset = rng.uniform(-0.015, 0.015)
        half *= rng.uniform(0.8, 1.25)
        across = np.abs(canvas.u + wobble - centre - offset + bow * canvas.v**2)
        canvas.tint(whole * np.clip((half + 0.02 - across) * 120, 0, 1), dark)
        canvas.tint(whole * np.clip((half - across) * 120, 0, 1), (0.97, 0.96, 0.93))
    paint_scales(canvas, body, 0.035, 0.1)
    round_body(canvas, body)
    paint_face(canvas, (0.1, -0.035), 0.03, 0.21, (0.95, 0.6, 0.2), [(0.0, 0.035), (0.05, 0.05)])


def draw_angelfish(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a tall silver diamond with long swept fins and dark bars."""
    silver, dark = (0.82, 0.84, 0.86), (0.1, 0.1, 0.13)
    reach = rng.uniform(0.5, 0.6)
    paint_fin(
        canvas,
        [
            (0.68, -0.05),
            (0.84, -0.14),
            (1.0, -0.2),
            (0.95, 0.0),
            (1.0, 0.2),
            (0.84, 0.14),
            (0.68, 0.05),
        ],
        (0.74, 0.76, 0.8),
        (0.55, 0.0),
        rays=46.0,
    )
    for side in (-1.0, 1.0):
        sweep = [
            (0.32, side * 0.2),
            (0.5, side * 0.42),
            (0.72, side * reach),
            (0.9, side * (reach + 0.04)),
            (0.76, side * 0.36),
            (0.7, side * 0.1),
        ]
        paint_fin(canvas, sweep, (0.8, 0.8, 0.78), (0.3, 0.0), rays=44.0)
    streamer = [(0.3, 0.2), (0.36, 0.4), (0.46, 0.58), (0.42, 0.38), (0.37, 0.2)]
    paint_fin(canvas, streamer, (0.9, 0.88, 0.8), (0.3, 0.0))
    top = [
        (0.0, 0.01),
        (0.08, -0.08),
        (0.2, -0.2),
        (0.38, -0.31),
        (0.52, -0.26),
        (0.64, -0.12),
        (0.74, -0.05),
    ]
    bottom = [
        (0.02, 0.04),
        (0.1, 0.1),
        (0.22, 0.21),
        (0.38, 0.3),
        (0.52, 0.25),
        (0.64, 0.12),
        (0.74, 0.05),
    ]
    body = paint_body(canvas, top, bottom, (0.72, 0.66, 0.42), silver)
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
    paint_scales(canvas, body, 0.03, 0.12)
    round_body(canvas, body, 0.14)
    paint_face(
        canvas, (0.11, -0.03), 0.032, 0.22, (0.85, 0.25, 0.15), [(0.0, 0.03), (0.045, 0.035)]
    )


def draw_surgeonfish(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a blue oval with a black sweep over its flank and a yellow crescent tail."""
    blue, yellow, dark = (0.06, 0.2, 0.88), (0.98, 0.83, 0.06), (0.02, 0.02, 0.06)
    paint_fin(
        canvas,
        [
            (0.78, -0.035),
            (0.88, -0.1),
            (1.02, -0.23),
            (0.94, -0.07),
            (0.93, 0.0),
            (0.94, 0.07),
            (1.02, 0.23),
            (0.88, 0.1),
            (0.78, 0.035),
        ],
        yellow,
        (0.7, 0.0),
        edge=dark,
    )
    for side in (-1.0, 1.0):
        edge = [
            (0.2, side * 0.16),
            (0.26, side * 0.28),
            (0.45, side * 0.32),
            (0.66, side * 0.25),
            (0.76, side * 0.14),
            (0.76, side * 0.05),
        ]
        paint_fin(canvas, edge, (0.05, 0.14, 0.7), (0.3, 0.0), rays=64.0, edge=dark)
    top = [
        (0.0, 0.03),
        (0.05, -0.07),
        (0.16, -0.19),
        (0.34, -0.25),
        (0.54, -0.21),
        (0.7, -0.1),
        (0.82, -0.04),
    ]
    bottom = [
        (0.02, 0.07),
        (0.07, 0.11),
        (0.18, 0.2),
        (0.34, 0.245),
        (0.54, 0.2),
        (0.7, 0.1),
        (0.82, 0.04),
    ]
    body = paint_body(canvas, top, bottom, blue, (0.16, 0.36, 0.98))
    bend = rng.uniform(-0.03, 0.03)
    upper = canvas.polygon(
        [
            (0.16, -0.06),
            (0.3, -0.16),
            (0.5, -0.16),
            (0.7, -0.07),
            (0.84, -0.02),
            (0.84, 0.02),
            (0.68, 0.04),
            (0.52, 0.06 + bend),
            (0.36, 0.02 + bend),
            (0.26, -0.05),
        ]
    )
    hole = canvas.polygon(
        [(0.34, -0.07), (0.44, -0.1), (0.56, -0.07), (0.5, -0.02 + bend), (0.4, -0.02 + bend)]
    )
    size = rng.uniform(0.6, 1.0)
    canvas.tint(body * np.clip(upper - size * hole, 0.0, 1.0), dark)
    wedge = canvas.polygon([(0.7, 0.0), (0.78, -0.03), (0.86, -0.04), (0.86, 0.04), (0.78, 0.03)])
    canvas.tint(body * wedge, yellow)
    paint_scales(canvas, body, 0.022, 0.14)
    round_body(canvas, body, 0.12)
    paint_face(canvas, (0.12, -0.06), 0.026, 0.22, (0.9, 0.85, 0.6), [(0.005, 0.05), (0.04, 0.055)])


def draw_pike(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a long green hunter with pale flecks and its fins far back."""
    green, fin = (0.2, 0.46, 0.16), (0.42, 0.5, 0.16)
    paint_fin(
        canvas,
        [
            (0.85, -0.025),
            (0.92, -0.07),
            (1.02, -0.11),
            (0.965, 0.0),
            (1.02, 0.11),
            (0.92, 0.07),
            (0.85, 0.025),
        ],
        fin,
        (0.8, 0.0),
        rays=30.0,
    )
    for side in (-1.0, 1.0):
        paint_fin(
            canvas,
            [
                (0.68, side * 0.04),
                (0.71, side * 0.13),
                (0.79, side * 0.14),
                (0.83, side * 0.09),
                (0.82, side * 0.03),
            ],
            fin,
            (0.66, 0.0),
            rays=36.0,
        )
    paint_fin(canvas, [(0.46, 0.05), (0.49, 0.115), (0.55, 0.11), (0.53, 0.05)], fin, (0.44, 0.0))
    top = [
        (0.0, 0.0),
        (0.08, -0.022),
        (0.17, -0.045),
        (0.3, -0.075),
        (0.5, -0.08),
        (0.7, -0.06),
        (0.82, -0.03),
        (0.88, -0.028),
    ]
    bottom = [
        (0.0, 0.018),
        (0.08, 0.03),
        (0.17, 0.052),
        (0.3, 0.075),
        (0.5, 0.078),
        (0.7, 0.055),
        (0.82, 0.03),
        (0.88, 0.028),
    ]
    body = paint_body(canvas, top, bottom, green, (0.86, 0.88, 0.62))
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
    round_body(canvas, body, 0.05)
    paint_face(canvas, (0.125, -0.012), 0.018, 0.22, (0.9, 0.75, 0.2), [(0.0, 0.012), (0.1, 0.02)])


def draw_pufferfish(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a yellow ball with brown spots, a pale belly and short spines."""
    yellow, brown = (0.88, 0.7, 0.16), (0.3, 0.17, 0.06)
    fin = (0.9, 0.74, 0.3)
    paint_fin(
        canvas,
        [
            (0.78, -0.04),
            (0.88, -0.11),
            (0.99, -0.1),
            (1.0, 0.0),
            (0.99, 0.1),
            (0.88, 0.11),
            (0.78, 0.04),
        ],
        fin,
        (0.7, 0.0),
        rays=26.0,
    )
    paint_fin(canvas, [(0.6, -0.16), (0.68, -0.29), (0.78, -0.26), (0.74, -0.1)], fin, (0.6, 0.0))
    paint_fin(canvas, [(0.62, 0.16), (0.7, 0.28), (0.78, 0.24), (0.74, 0.1)], fin, (0.6, 0.0))
    fat = rng.uniform(0.92, 1.1)
    for angle in np.linspace(0.25, 2.0 * np.pi - 0.25, 27):
        if abs(angle - np.pi) < 0.5:
            continue
        ray = np.array([0.34 * np.cos(angle), 0.29 * fat * np.sin(angle)])
        side = np.array([-np.sin(angle), np.cos(angle)]) * 0.02
        foot = ray * 0.9 + (0.36, 0.0)
        spine = [tuple(foot + side), tuple(ray * 1.16 + (0.36, 0.0)), tuple(foot - side)]
        canvas.paint(canvas.polygon(spine, smooth=False), (0.7, 0.55, 0.2))
    top = [
        (0.0, 0.0),
        (0.05, -0.09),
        (0.16, -0.21 * fat),
        (0.34, -0.29 * fat),
        (0.52, -0.24 * fat),
        (0.68, -0.12),
        (0.82, -0.055),
    ]
    bottom = [
        (0.02, 0.04),
        (0.07, 0.14),
        (0.18, 0.26 * fat),
        (0.36, 0.32 * fat),
        (0.54, 0.26 * fat),
        (0.68, 0.12),
        (0.82, 0.055),
    ]
    body = paint_body(canvas, top, bottom, yellow, (0.97, 0.94, 0.84))
    count = int(rng.integers(28, 46))
    centres = [(rng.uniform(0.1, 0.8), rng.uniform(-0.3, 0.1)) for _ in range(count)]
    radii = [rng.uniform(0.012, 0.034) * (1.0 - 1.2 * max(v, 0.0) / 0.2) for _, v in centres]
    canvas.tint(0.9 * body * canvas.discs(centres, radii), brown)
    round_body(canvas, body, 0.16)
    paint_face(canvas, (0.14, -0.06), 0.045, 0.27, (0.95, 0.9, 0.5), [(0.0, 0.02), (0.035, 0.03)])


def draw_betta(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a slim violet body with huge, wavy crimson veils."""
    deep, veil = (0.34, 0.06, 0.42), (0.86, 0.08, 0.34)
    pale = (0.95, 0.45, 0.68)
    big = rng.uniform(0.9, 1.1)
    tail = [(0.5, -0.06)]
    for step, angle in enumerate(np.linspace(-1.05, 1.05, 11)):
        radius = 0.46 + (0.045 if step % 2 else -0.015)
        tail.append((0.54 + radius * np.cos(angle), 0.9 * big * radius * np.sin(angle)))
    tail.append((0.5, 0.06))
    paint_fin(canvas, tail, veil, (0.45, 0.0), rays=52.0, edge=pale)
    dorsal = [
        (0.32, -0.08),
        (0.36, -0.3 * big),
        (0.46, -0.4 * big),
        (0.58, -0.37 * big),
        (0.64, -0.26),
        (0.6, -0.06),
    ]
    paint_fin(canvas, dorsal, (0.74, 0.06, 0.36), (0.36, 0.1), rays=56.0, edge=pale)
    anal = [
        (0.26, 0.08),
        (0.34, 0.28 * big),
        (0.5, 0.4 * big),
        (0.64, 0.4 * big),
        (0.66, 0.2),
        (0.6, 0.05),
    ]
    paint_fin(canvas, anal, (0.78, 0.06, 0.4), (0.3, -0.1), rays=56.0, edge=pale)
    paint_fin(
        canvas, [(0.2, 0.09), (0.26, 0.3), (0.33, 0.36), (0.3, 0.2), (0.28, 0.08)], veil, (0.2, 0.0)
    )
    top = [(0.0, 0.0), (0.07, -0.06), (0.18, -0.11), (0.32, -0.13), (0.46, -0.1), (0.6, -0.06)]
    bottom = [(0.02, 0.03), (0.08, 0.07), (0.18, 0.115), (0.32, 0.13), (0.46, 0.1), (0.6, 0.06)]
    body = paint_body(canvas, top, bottom, deep, (0.56, 0.12, 0.6))
    shine = np.clip(canvas.noise(rng, 5.0) * 2.0 - 0.8, 0.0, 1.0)
    canvas.tint(0.55 * body * shine, (0.45, 0.35, 0.95))
    paint_scales(canvas, body, 0.034, 0.3)
    streaks = canvas.noise(rng, 9.0)
    canvas.shade(1.0 + (1.0 - body) * 0.5 * (streaks - 0.5))
    round_body(canvas, body, 0.08)
    paint_face(canvas, (0.085, -0.02), 0.026, 0.18, (0.9, 0.9, 0.5), [(0.0, 0.02), (0.04, 0.028)])
