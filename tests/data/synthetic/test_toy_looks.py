import numpy as np
import pytest

from amodal2.data.synthetic.toy_looks import PATTERNS, Floor, Look, draw_look

COLOURS = np.array([[0.1, 0.2, 0.3], [0.9, 0.7, 0.5]])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_look_paints_with_its_two_colours(pattern):
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (3, 4000))
    colour = Look(pattern, COLOURS, np.eye(3), 14.0, 0.0).paint(points)
    assert colour.shape == (4000, 3)
    first = np.isclose(colour, COLOURS[0]).all(axis=1).mean()
    second = np.isclose(colour, COLOURS[1]).all(axis=1).mean()
    assert first + second > 0.45
    assert (second == 0) == (pattern == "plain")


def test_look_is_bound_to_the_body():
    look = Look("stripes", COLOURS, np.eye(3), 14.0, 0.0)
    points = np.random.default_rng(1).uniform(-0.4, 0.4, (3, 100))
    moved = points + np.array([[0.0], [0.3], [-0.2]])
    np.testing.assert_array_equal(look.paint(points), look.paint(moved))
    assert (look.paint(points) != look.paint(points + 0.1)).any()


def test_draw_look_same_seed_same_look():
    one, two, other = (draw_look(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.colours, two.colours)
    assert (one.colours != other.colours).any()
    assert one.colours.min() >= 0
    assert one.colours.max() <= 1


def test_floor_repeats_and_is_blurred_far_away():
    floor = Floor(np.random.default_rng(4))
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-9, 9, (2, 3000))
    near = floor.paint(x, y, np.full(3000, 2.0), 1 / 300)
    np.testing.assert_allclose(
        floor.paint(x + 6.0, y - 12.0, np.full(3000, 2.0), 1 / 300), near, atol=1e-4
    )
    far = floor.paint(x, y, np.full(3000, 60.0), 1 / 300)
    assert far.std() < near.std()
    assert near.min() >= 0
    assert near.max() <= 1
