import numpy as np
import pytest

from amodal2.data.synthetic.choreography import (
    Choreographer,
    Judge,
    Role,
    measure_hiding,
)
from amodal2.data.synthetic.species import SPECIES
from tests.data.synthetic.discs import disc, scene

FRAMES = 24


def test_measure_hiding_counts_only_frames_after_the_first_sight():
    visible = np.array([[0.0, 0.0, 10.0, 5.0], [4.0, 4.0, 4.0, 0.0]])
    amodal = np.array([[10.0, 10.0, 10.0, 10.0], [4.0, 4.0, 4.0, 0.0]])
    hiding = measure_hiding(visible, amodal, 2)
    assert hiding.share == pytest.approx(1 / 5)
    np.testing.assert_allclose(hiding.hidden, [0.5, 0.0])
    np.testing.assert_allclose(hiding.presence, [0.5, 0.75])
    np.testing.assert_allclose(hiding.seen, [10.0, 4.0])
    assert not hiding.vanished.any()


@pytest.fixture(scope="module")
def stage():
    rng = np.random.default_rng(0)
    roles = [
        Role(SPECIES[i % 6], float(rng.uniform(*SPECIES[i % 6].length)), 0.1 + 0.1 * i)
        for i in range(7)
    ]
    fish = [disc(0.5, 0.3, role.length, role.depth, frames=FRAMES) for role in roles]
    for actor in fish:
        actor.sprite.pixels_per_unit *= 4
    return roles, scene(*fish, frames=FRAMES)


def test_choreographer_shows_every_fish(stage):
    roles, made = stage
    choreographer = Choreographer(np.random.default_rng(1), roles, [], FRAMES, 2 / 3)
    paths = choreographer.choreograph(made)
    hiding = Judge(made, 2 / 3).measure(paths)
    assert len(paths) == 7
    assert (hiding.presence > 0.3).all()
    assert 0.1 < hiding.share < 0.6


def test_choreographer_is_seeded(stage):
    roles, made = stage
    first, second = (
        Choreographer(np.random.default_rng(5), roles, [], FRAMES, 2 / 3).choreograph(made)
        for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.x, b.x)
