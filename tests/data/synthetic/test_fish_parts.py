import numpy as np

from amodal2.data.synthetic.fish_parts import paint_body, paint_fin, round_body
from amodal2.data.synthetic.sprite import Canvas

TOP = [(0.1, 0.0), (0.5, -0.2), (0.9, 0.0)]
BOTTOM = [(0.1, 0.02), (0.5, 0.2), (0.9, 0.02)]


def test_paint_body_runs_from_back_to_belly():
    canvas = Canvas((0.0, -0.4, 1.0, 0.4), 60)
    mask = paint_body(canvas, TOP, BOTTOM, (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    rows = np.flatnonzero(mask[:, 60] > 0.9)
    assert canvas.rgb[rows[0], 60, 0] > 0.8
    assert canvas.rgb[rows[-1], 60, 2] > 0.8
    np.testing.assert_array_equal(canvas.alpha, mask)


def test_round_body_darkens_the_outline_more_than_the_middle():
    canvas = Canvas((0.0, -0.4, 1.0, 0.4), 60)
    mask = paint_body(canvas, TOP, BOTTOM, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    round_body(canvas, mask)
    rows = np.flatnonzero(mask[:, 60] > 0.9)
    assert canvas.rgb[rows[0], 60, 0] < canvas.rgb[rows[len(rows) // 2], 60, 0]


def test_paint_fin_edge_colours_only_the_rim():
    canvas = Canvas((0.0, 0.0, 1.0, 1.0), 60)
    outline = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)]
    paint_fin(canvas, outline, (0.0, 1.0, 0.0), (0.5, 0.5), edge=(1.0, 0.0, 0.0))
    assert canvas.rgb[60, 60, 0] == 0
    assert canvas.rgb[..., 0].max() > 0.9
