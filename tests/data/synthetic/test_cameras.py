import numpy as np
import pytest

from amodal2.data.synthetic.cameras import ParallelRays, Pinhole, axes_along, turn


@pytest.fixture(params=["pinhole", "parallel"])
def camera(request):
    axes = axes_along(np.array([0.4, 1.0, -0.5]))
    if request.param == "pinhole":
        return Pinhole(np.array([-1.0, -4.0, 2.0]), axes, 70.0, 48, 64)
    return ParallelRays(axes, 3.0, 60)


def test_axes_along_are_right_handed_with_right_level_and_down_downwards():
    axes = axes_along(np.array([0.4, 1.0, -0.5]))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    assert axes[0, 2] == 0
    assert axes[1, 2] < 0


def test_turn_is_the_matrix_product():
    rng = np.random.default_rng(0)
    matrix, vectors = rng.normal(size=(3, 3)), rng.normal(size=(3, 7))
    np.testing.assert_allclose(turn(matrix, vectors), matrix @ vectors)
    np.testing.assert_allclose(turn(matrix, vectors[:, 0]), matrix @ vectors[:, 0])


def test_project_takes_points_on_rays_back_to_their_pixels(camera):
    rng = np.random.default_rng(1)
    x, y, depth = rng.uniform(0, 60, 50), rng.uniform(0, 45, 50), rng.uniform(1, 9, 50)
    origin, direction = camera.rays(x, y)
    points = origin.reshape(3, -1) + depth * direction.reshape(3, -1)
    np.testing.assert_allclose(camera.project(points), [x, y, depth], atol=1e-9)


def test_pinhole_middle_ray_is_the_optical_axis():
    axes = axes_along(np.array([1.0, 0.0, 0.0]))
    _, direction = Pinhole(np.zeros(3), axes, 50.0, 11, 21).rays(np.array([10.0]), np.array([5.0]))
    np.testing.assert_allclose(direction[:, 0], [1, 0, 0], atol=1e-12)


def test_box_is_tight_round_a_ball(camera):
    rng = np.random.default_rng(2)
    for _ in range(20):
        centre, radius = rng.uniform(-1.5, 1.5, 3), rng.uniform(0.1, 0.7)
        surface = rng.normal(size=(3, 20000))
        surface = centre[:, None] + radius * surface / np.sqrt((surface**2).sum(axis=0))
        x, y, _ = camera.project(surface)
        x0, y0, x1, y1 = camera.box(centre, radius)
        limit = (camera.size,) * 2 if isinstance(camera, ParallelRays) else (64, 48)
        for low, high, values, size in ((x0, x1, x, limit[0]), (y0, y1, y, limit[1])):
            assert low <= max(np.ceil(values.min()), 0)
            assert high >= min(np.floor(values.max()) + 1, size)
            assert low >= min(max(values.min() - 2, 0), size)
            assert high <= min(max(values.max() + 3, 0), size)


def test_box_behind_the_camera_is_empty_and_around_it_is_everything():
    camera = Pinhole(np.zeros(3), axes_along(np.array([0.0, 1.0, 0.0])), 50.0, 40, 60)
    x0, y0, x1, y1 = camera.box(np.array([0.0, -3.0, 0.0]), 1.0)
    assert (x1 - x0) * (y1 - y0) == 0
    assert camera.box(np.array([0.0, -0.2, 0.0]), 1.0) == (0, 0, 60, 40)
