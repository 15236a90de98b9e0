"""Small line charts as SVG text, for reports without any network or plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 398, 284
LEFT, RIGHT, TOP, BOTTOM = 46, 30, 30, 72
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
STYLE = """svg text{font:11px system-ui,sans-serif;fill:#333}svg .title{font-weight:bold}
svg .mid{text-anchor:middle}svg .end{text-anchor:end}.grid{stroke:#e2e2e2}
.line{fill:none;stroke-width:1.8}"""
"""Style sheet of the page that has the charts."""


def line_chart(
    title: str,
    series: Mapping[str, Sequence[float | None]],
    x: Sequence[float],
    *,
    x_label: str,
    y_label: str,
    ticks: Mapping[float, str],
    markers: bool = False,
) -> str:
    """Draw lines over a common axis; y runs from 0 to 100.

    Args:
        title: above the chart.
        series: name -> a value in percent for each x; None breaks the line.
        x: ascending positions, at least two.
        x_label: below the chart.
        y_label: beside it.
        ticks: position -> text of up to two lines.
        markers: draw a dot at each value.

    Returns:
        str: an ``svg`` element.
    """
    low, high = x[0], x[-1]

    def place(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def rise(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / 100)

    parts = [f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>']
    for value in range(0, 101, 20):
        y = rise(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" class="end">{value}</text>')
    for position, text in ticks.items():
        for row, line in enumerate(text.split("\n")):
            at = f'x="{place(position):.1f}" y="{HEIGHT - BOTTOM + 15 + 13 * row}"'
            parts.append(f'<text {at} class="mid">{escape(line)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - BOTTOM + 44}" class="mid">{escape(x_label)}</text>'
    )
    turned = f'transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
    parts.append(f'<text {turned} class="mid">{escape(y_label)}</text>')
    for i, (name, values) in enumerate(series.items()):
        color = COLORS[i % len(COLORS)]
        points = [
            None if value is None else (place(at), rise(value))
            for at, value in zip(x, values, strict=True)
        ]
        parts.append(f'<path d="{_path(points)}" stroke="{color}" class="line"/>')
        dots = [point for point in points if point is not None] if markers else []
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{color}"/>' for a, b in dots]
        start, y = LEFT + i * (WIDTH - LEFT) // max(1, len(series)), HEIGHT - 10
        parts.append(f'<path d="M{start} {y - 4}h14" stroke="{color}" class="line"/>')
        parts.append(f'<text x="{start + 18}" y="{y}">{escape(name)}</text>')
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{"".join(parts)}</svg>'


def stand_alone(chart: str) -> str:
    """Return a chart as the content of a file: with its style sheet, on white.

    Args:
        chart: of :func:`line_chart`.
    """
    opening, content = chart.split(">", 1)
    paper = f'<path d="M0 0H{WIDTH}V{HEIGHT}H0" fill="#fff"/>'
    return f"{opening}><style>{STYLE}</style>{paper}{content}"


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    text, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
        else:
            text.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
            pen = "L"
    return "".join(text)
