import numpy as np
import pytest

from amodal2.data.synthetic.solids import (
    ball,
    block,
    cast_parts,
    hull,
    scaled,
    surface_normals,
    tube,
)

PARTS = {
    "ball": ball((0.1, -0.2, 0.05), 0.4),
    "egg": ball((0, 0, 0), (0.2, 0.3, 0.5)),
    "tube_x": tube((0.1, 0, 0.2), 0, 0.25, 0.4),
    "tube_z": tube((0, 0.1, 0), 2, 0.3, 0.2),
    "block": block((0.05, 0, -0.1), (0.2, 0.35, 0.3)),
    "hull": hull([(-0.4, -0.3, -0.2), (0.4, -0.3, -0.2), (0, 0.5, -0.2), (0, 0, 0.5)]),
}


def inside(part, points):
    """Say which points [3, ...] lie in a part, by its definition."""
    shape = (3,) + (1,) * (points.ndim - 1)
    quadric = (part.weights.reshape(shape) * (points - part.centre.reshape(shape)) ** 2).sum(0) <= 1
    planes = np.tensordot(part.normals, points, 1) <= part.offsets.reshape(-1, *shape[1:])
    return quadric & planes.all(axis=0)


def rays(mode, count=300):
    """Draw rays that start at one point, or that have one direction."""
    rng = np.random.default_rng(3)
    aim = rng.uniform(-0.6, 0.6, (3, count))
    if mode == "point":
        origin = np.array([0.7, -2.5, 1.1])
        return origin, aim - origin[:, None]
    direction = np.array([0.3, 0.5, -1.0])
    return aim - 3 * direction[:, None], direction


@pytest.mark.parametrize("mode", ["point", "parallel"])
@pytest.mark.parametrize("names", [[name] for name in PARTS] + [["ball", "tube_x", "block"]])
def test_cast_parts_agrees_with_small_steps_along_the_rays(names, mode):
    parts = tuple(PARTS[name] for name in names)
    origin, direction = rays(mode)
    found, number, plane = cast_parts(parts, origin, direction)
    starts, ways = np.broadcast_arrays(
        origin.reshape(3, -1), direction.reshape(3, -1) + np.zeros(len(found))
    )
    steps = np.linspace(0, 5, 4001)
    points = starts[:, :, None] + steps * ways[:, :, None]
    within = np.any([inside(part, points) for part in parts], axis=0)
    first = np.where(within.any(axis=1), steps[within.argmax(axis=1)], np.inf)
    grazing = np.isfinite(found) & (within.sum(axis=1) < 4)
    assert 40 < np.isfinite(found).sum() < 299
    assert (np.isfinite(found) >= np.isfinite(first)).all()
    np.testing.assert_allclose(found[~grazing], first[~grazing], atol=2 * steps[1])
    hit = np.isfinite(found)
    where = starts[:, hit] + found[hit] * ways[:, hit]
    normals = surface_normals(parts, number[hit], plane[hit], where)
    np.testing.assert_allclose((normals**2).sum(axis=0), 1.0)
    assert ((normals * ways[:, hit]).sum(axis=0) < 0).all()
    outer = np.any([inside(part, where + 1e-4 * normals) for part in parts], axis=0)
    inner = np.any([inside(part, where - 1e-4 * normals) for part in parts], axis=0)
    assert inner.mean() > 0.99
    assert outer.mean() < 0.01


def test_cast_parts_ignores_what_lies_behind_the_origin():
    origin, direction = rays("point")
    found, _, _ = cast_parts((PARTS["ball"], PARTS["hull"]), origin, -direction)
    assert np.isinf(found).all()


def test_hull_of_a_cube_has_six_planes():
    corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    part = hull(corners)
    assert len(part.normals) == 6
    np.testing.assert_allclose(part.offsets, 1.0)


@pytest.mark.parametrize("name", PARTS)
def test_scaled_part_is_the_same_in_other_units(name):
    part, larger = PARTS[name], scaled(PARTS[name], 2.5)
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (3, 500))
    np.testing.assert_array_equal(inside(larger, 2.5 * points), inside(part, points))
    assert larger.size == tuple(2.5 * s for s in part.size)
    np.testing.assert_allclose(larger.vertices, 2.5 * part.vertices)


@pytest.mark.parametrize("name", PARTS)
def test_reach_bounds_the_part(name):
    part = PARTS[name]
    points = np.random.default_rng(1).uniform(-1, 1, (3, 20000))
    far = np.sqrt((points[:, inside(part, points)] ** 2).sum(axis=0)).max()
    assert far <= part.reach <= 1.3 * far
