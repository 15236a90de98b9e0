import numpy as np
import pytest

from amodal2.data.synthetic.scenery import draw_bush, draw_kelp, draw_rock

THINGS = {
    "rock": lambda rng: draw_rock(rng, 1.2, 50),
    "coral": lambda rng: draw_rock(rng, 1.2, 50, coral=True),
    "kelp": lambda rng: draw_kelp(rng, 0.3, 50),
    "bush": lambda rng: draw_bush(rng, 1.0, 50),
}


@pytest.mark.parametrize("name", sorted(THINGS))
def test_scenery_stands_on_its_foot_and_is_one_unit_tall(name):
    u0, v0, u1, v1 = THINGS[name](np.random.default_rng(0)).extent
    assert -1.15 < v0 < -0.75
    assert -0.05 < v1 < 0.1
    assert u0 < 0 < u1


@pytest.mark.parametrize(("name", "least"), [("rock", 0.7), ("coral", 0.7), ("bush", 0.55)])
def test_scenery_to_hide_behind_is_solid(name, least):
    image = THINGS[name](np.random.default_rng(0)).image
    assert (image[..., 3] > 127).mean() > least


def test_scenery_is_seeded():
    first, again, other = (draw_bush(np.random.default_rng(s), 1.0, 30).image for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()
