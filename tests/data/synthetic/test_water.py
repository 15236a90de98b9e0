import numpy as np
import pytest

from amodal2.data.synthetic.water import Water


@pytest.fixture(scope="module")
def water():
    return Water(np.random.default_rng(0), 2 / 3, np.array([[0.0, 0.0], [0.05, 0.0]]))


def test_water_canvas_moves_with_the_drift(water):
    still, moved = water.canvas(0, 80, 120), water.canvas(1, 80, 120)
    assert still.shape == (80, 120, 3)
    np.testing.assert_allclose(moved[:, 6:], still[:, :-6], atol=1e-5)
    assert water.shift(1) == (0.05, 0.0)


def test_water_canvas_is_textured(water):
    assert water.canvas(0, 80, 120).std(axis=1).mean() > 0.01


def test_water_finish_light_moves(water):
    grey = np.full((80, 120, 3), 0.5, np.float32)
    first, second = water.finish(grey, 0), water.finish(grey, 3)
    assert np.abs(first - second).max() > 0.05
    assert 0.35 < first.mean() < 0.9
