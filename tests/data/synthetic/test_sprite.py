import numpy as np
import pytest

from amodal2.data.synthetic.sprite import Canvas, smooth_outline

SQUARE = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]


@pytest.fixture
def square():
    canvas = Canvas((-1.0, -1.0, 1.0, 1.0), 40)
    canvas.paint(canvas.polygon(SQUARE, smooth=False), (1.0, 0.5, 0.0))
    return canvas.finish()


def sample(sprite, u, v):
    return sprite.sample(np.array([[u]], np.float32), np.array([[v]], np.float32))[0, 0]


@pytest.mark.parametrize(("u", "opaque"), [(0.0, True), (0.47, True), (0.57, False), (5.0, False)])
def test_sprite_sample_is_opaque_exactly_inside_the_shape(square, u, opaque):
    assert sample(square, u, 0.0)[3] == (255 if opaque else 0)


def test_sprite_sample_returns_premultiplied_colour(square):
    np.testing.assert_array_equal(sample(square, 0.1, 0.1), [255, 128, 0, 255])
    half = sample(square, 0.5, 0.0)
    assert half[0] <= half[3]
    assert 60 < half[3] < 200


def test_sprite_level_keeps_places_and_halves_the_resolution(square):
    small = square.level(20)
    assert small.pixels_per_unit == 20
    np.testing.assert_allclose(small.extent, square.extent, atol=0.05)
    assert sample(small, 0.45, 0.0)[3] == 255
    assert sample(small, 0.56, 0.0)[3] == 0


def test_canvas_window_draws_on_its_parent():
    canvas = Canvas((0.0, 0.0, 1.0, 1.0), 20)
    part = canvas.window((0.5, 0.5), 0.2)
    part.paint(part.disc((0.5, 0.5), 0.1), (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(canvas.alpha, canvas.disc((0.5, 0.5), 0.1))


def test_canvas_tint_leaves_the_shape_alone():
    canvas = Canvas((0.0, 0.0, 1.0, 1.0), 20)
    canvas.tint(canvas.disc((0.5, 0.5), 0.3), (1.0, 0.0, 0.0))
    assert canvas.alpha.max() == 0


def test_canvas_vary_turns_the_hue():
    canvas = Canvas((0.0, 0.0, 1.0, 1.0), 10)
    canvas.paint(np.ones_like(canvas.alpha), (1.0, 0.0, 0.0))
    canvas.vary(120.0, 1.0, 1.0)
    np.testing.assert_allclose(canvas.rgb[0, 0], [0.0, 1.0, 0.0], atol=1e-5)


def test_smooth_outline_passes_through_its_corners():
    outline = smooth_outline(SQUARE, steps=5)
    assert outline.shape == (20, 2)
    np.testing.assert_allclose(outline[::5], SQUARE)
