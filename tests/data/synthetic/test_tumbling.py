import sys

import numpy as np
import pytest

from amodal2.data.synthetic.toys import TOYS
from amodal2.data.synthetic.tumbling import tumble
from amodal2.utils.errors import MissingDependencyError
from tests.data.synthetic.playrooms import needs_physics

FRAMES = 24


def bodies():
    rng = np.random.default_rng(0)
    return [kind.build(rng) for kind in TOYS]


@pytest.fixture(scope="module")
def motion():
    return tumble(np.random.default_rng(1), bodies(), FRAMES)


def lowest(part, place, axes):
    """Return the height of the lowest point of a part."""
    up, middle = axes[2], place[2] + axes[2] @ part.centre
    if part.kind == "mesh":
        return place[2] + (part.vertices @ up).min()
    if part.kind == "box":
        return middle - np.abs(up) @ part.size
    if part.kind == "ellipsoid":
        return middle - np.linalg.norm(up * part.size)
    across = np.sqrt(max(0.0, 1 - up[part.axis] ** 2))
    return middle - part.size[0] * across - part.size[1] * abs(up[part.axis])


@needs_physics
def test_tumble_same_seed_gives_the_same_motion(motion):
    again = tumble(np.random.default_rng(1), bodies(), FRAMES)
    other = tumble(np.random.default_rng(2), bodies(), FRAMES)
    np.testing.assert_array_equal(again.positions, motion.positions)
    np.testing.assert_array_equal(again.rotations, motion.rotations)
    assert (other.positions != motion.positions).any()


@needs_physics
def test_tumble_half_of_the_bodies_fall_and_none_through_the_floor(motion):
    start, end = motion.positions[0, :, 2], motion.positions[-1, :, 2]
    assert (start[:6] < 1.0).all()
    assert (start[6:] > 1.0).all()
    assert (end[6:] < start[6:] - 0.5).all()
    low = [
        min(lowest(p, motion.positions[t, n], motion.rotations[t, n]) for p in body)
        for t in range(FRAMES)
        for n, body in enumerate(bodies())
    ]
    assert min(low) > -0.03
    final = low[-len(TOYS) :]
    assert np.median(final) < 0.02


@needs_physics
def test_tumble_falls_as_gravity_says(motion):
    height = motion.positions[:3, 6:, 2]
    fall = height[2] - 2 * height[1] + height[0]
    assert np.median(fall) == pytest.approx(-9.81 / 12**2, rel=0.1)


@needs_physics
def test_tumble_bodies_collide_and_turn(motion):
    assert motion.touches.sum() // 2 >= 6
    assert not motion.touches.diagonal().any()
    np.testing.assert_array_equal(motion.touches, motion.touches.T)
    product = motion.rotations @ motion.rotations.transpose(0, 1, 3, 2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-9)
    turned = np.einsum("nij,nij->n", motion.rotations[0], motion.rotations[8])
    assert (turned[6:] < 2.99).all()


def test_tumble_without_the_engine_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingDependencyError, match=r"amodal2\[physics\]"):
        tumble(np.random.default_rng(0), bodies(), 2)
