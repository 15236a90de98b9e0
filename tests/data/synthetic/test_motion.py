from dataclasses import replace

import numpy as np
import pytest

from amodal2.data.synthetic.motion import Swimmer, stand, swim

SWIMMER = Swimmer(
    length=0.3,
    girth=0.25,
    speed=0.01,
    surge=(0.2, 0.02, 0.5),
    heave=(0.02, 0.02, 1.0),
    turn_frames=10.0,
    borders=(-0.5, 1.5),
    depth=0.5,
    depth_step=0.04,
)


@pytest.mark.parametrize("anchor", [0, 13, 31])
@pytest.mark.parametrize("heading", [1, -1])
def test_swim_is_at_the_given_point_at_the_anchor(anchor, heading):
    path = swim(SWIMMER, 32, anchor, 0.4, 0.3, heading)
    assert path.x[anchor] == pytest.approx(0.4)
    assert path.y[anchor] == pytest.approx(0.3)
    assert path.depth[anchor] == pytest.approx(0.5)
    assert np.sign(path.facing[anchor]) == heading
    assert len(path.x) == len(path.pitch) == 32


@pytest.mark.parametrize("heading", [1, -1])
def test_swim_moves_where_the_fish_looks(heading):
    path = swim(SWIMMER, 32, 10, 0.5, 0.3, heading)
    assert (np.sign(np.diff(path.x)) == heading).all()


def test_swim_turns_back_behind_its_border():
    path = swim(replace(SWIMMER, borders=(-0.5, 0.6)), 60, 0, 0.5, 0.3, 1)
    assert path.facing[0] > 0
    assert path.facing[-1] < 0
    assert 0.6 < path.x.max() < 0.75
    assert path.x[-1] < 0.6
    assert abs(path.depth[-1] - path.depth[0]) == pytest.approx(0.04)


def test_swim_turns_smoothly_and_never_becomes_flat():
    path = swim(replace(SWIMMER, borders=(0.4, 0.6)), 128, 64, 0.5, 0.3, 1)
    assert np.abs(path.facing).min() >= SWIMMER.girth - 1e-9
    assert np.abs(np.diff(np.abs(path.facing))).max() < 0.35
    assert np.abs(np.diff(path.x, n=2)).max() < 0.6 * SWIMMER.speed
    assert np.abs(path.pitch).max() <= 0.5


def test_stand_moves_near_scenery_farther_than_distant_one():
    drift = np.array([[0.0, 0.0], [0.01, -0.02]])
    near = stand(2, 0.5, 0.6, 0.2, 0.0, drift)
    far = stand(2, 0.5, 0.6, 0.2, 1.0, drift)
    assert near.x[1] - near.x[0] == pytest.approx(0.02)
    assert far.x[1] - far.x[0] == pytest.approx(0.01)
    assert near.y[1] - near.y[0] == pytest.approx(-0.04)
