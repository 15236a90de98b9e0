import numpy as np
import pytest

from amodal2.data.synthetic import fish_drawings
from amodal2.data.synthetic.sprite import Canvas

HUES = {
    "clownfish": lambda r, g, b: r > g > b,
    "surgeonfish": lambda r, g, b: b > 1.5 * max(r, g),
    "pike": lambda r, g, b: g > max(r, b),
    "pufferfish": lambda r, g, b: r > g > b and g > 0.6 * r,
    "betta": lambda r, g, b: r > b > g,
    "angelfish": lambda r, g, b: max(r, g, b) < 1.4 * min(r, g, b),
}


@pytest.mark.parametrize("name", sorted(HUES))
def test_drawing_keeps_to_its_colour_family(name):
    canvas = Canvas((-0.04, -0.7, 1.06, 0.7), 60)
    getattr(fish_drawings, f"draw_{name}")(canvas, np.random.default_rng(3))
    colour = canvas.rgb[canvas.alpha > 0.99].mean(axis=0)
    assert HUES[name](*colour), colour
