"""Cast rays into a playroom: what they hit of each toy alone, and what they see first.

Rays go through pixels (x, y) of a camera. Dimensions: N toys, P rays, R hits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.cameras import Box, ParallelRays, Pinhole, turn
from amodal2.data.synthetic.playroom import Playroom
from amodal2.data.synthetic.solids import Index, Vector, cast_parts, surface_normals

FAR = 100.0
"""Depth in metres of the sky, and of the floor where it is farther."""

FLOOR, SKY = -1, -2
"""Owners of what belongs to no toy."""


@dataclass
class Raster:
    """Rays through pixels of a camera.

    Attributes:
        x (ndarray[P]): columns, float64.
        y (ndarray[P]): rows, float64.
        columns (int): the pixels are all of a picture of that many columns; 0: they are any.
    """

    x: Vector
    y: Vector
    columns: int = 0

    @classmethod
    def whole(cls, height: int, width: int) -> Raster:
        """Take every pixel of a picture, row by row."""
        y, x = np.mgrid[:height, :width].astype(np.float64)
        return cls(x.ravel(), y.ravel(), width)

    def inside(self, box: Box) -> Index:
        """Return the numbers of the rays within the box (x0, y0, x1, y1; ends excluded)."""
        x0, y0, x1, y1 = box
        if self.columns:
            return (np.arange(y0, y1)[:, None] * self.columns + np.arange(x0, x1)).ravel()
        near = (self.x >= x0 - 1) & (self.x <= x1) & (self.y >= y0 - 1) & (self.y <= y1)
        return np.flatnonzero(near)


@dataclass
class Hit:
    """Where rays hit one toy, as if it were alone.

    Attributes:
        places (ndarray[R]): numbers of the rays.
        depth (ndarray[R]): their lengths, in units of their directions.
        part (ndarray[R]): the part of the toy.
        plane (ndarray[R]): the plane of the part, -1 for none.
    """

    places: Index
    depth: Vector
    part: Index
    plane: Index


@dataclass
class Surface:
    """What P rays see first.

    Attributes:
        owner (ndarray[P]): int16, number of the toy, -1 for the floor, -2 for the sky.
        depth (ndarray[P]): along the optical axis in metres, at most ``FAR``.
        points (ndarray[3, P]): in the body frame of the toy; in the world for the rest.
        world (ndarray[3, P]): the same points in the world.
        normals (ndarray[3, P]): in the world.
        rays (ndarray[3, P]): directions, one metre of depth long.
    """

    owner: npt.NDArray[np.int16]
    depth: Vector
    points: Vector
    world: Vector
    normals: Vector
    rays: Vector


def cast_rays(
    scene: Playroom, t: int, camera: Pinhole | ParallelRays, pixels: Raster
) -> Iterator[Hit]:
    """Cast rays at every toy in turn.

    Args:
        scene (Playroom): the toys.
        t (int): frame.
        camera (Pinhole | ParallelRays): where the rays come from.
        pixels (Raster): P rays.

    Yields:
        Hit: of each toy, in their order.
    """
    origin, rays = camera.rays(pixels.x, pixels.y)
    for n, body in enumerate(scene.bodies):
        place, axes = scene.motion.positions[t, n], scene.motion.rotations[t, n]
        near = pixels.inside(camera.box(place, max(part.reach for part in body)))
        starts = origin if origin.ndim == 1 else origin[:, near]
        ways = rays if rays.ndim == 1 else rays[:, near]
        start = turn(axes.T, (starts.T - place).T)
        depth, part, plane = cast_parts(body, start, turn(axes.T, ways))
        hit = np.flatnonzero(np.isfinite(depth))
        yield Hit(near[hit], depth[hit], part[hit], plane[hit])


def resolve_rays(
    scene: Playroom, t: int, camera: Pinhole, pixels: Raster, hits: list[Hit]
) -> Surface:
    """Find what each ray sees first: a toy, the floor or the sky.

    Args:
        scene (Playroom): the toys.
        t (int): frame.
        camera (Pinhole): where the rays come from.
        pixels (Raster): P rays.
        hits (list[Hit]): of these rays on the N toys.

    Returns:
        Surface: at the end of every ray.
    """
    origin, rays = camera.rays(pixels.x, pixels.y)
    floor = np.full(len(pixels.x), FAR)
    falling = np.flatnonzero(rays[2] * FAR < -origin[2])
    floor[falling] = origin[2] / -rays[2, falling]
    depth, owner = floor.copy(), np.where(floor < FAR, FLOOR, SKY).astype(np.int16)
    part, plane = np.zeros(len(depth), np.int64), np.zeros(len(depth), np.int64)
    for n, hit in enumerate(hits):
        closer = hit.depth < depth[hit.places]
        at = hit.places[closer]
        depth[at], owner[at] = hit.depth[closer], n
        part[at], plane[at] = hit.part[closer], hit.plane[closer]
    world = origin[:, None] + depth * rays
    normals, points = np.zeros_like(world), world.copy()
    normals[2] = 1.0
    for n, body in enumerate(scene.bodies):
        own = np.flatnonzero(owner == n)
        axes = scene.motion.rotations[t, n]
        local = turn(axes.T, world[:, own] - scene.motion.positions[t, n][:, None])
        points[:, own] = local
        normals[:, own] = turn(axes, surface_normals(body, part[own], plane[own], local))
    return Surface(owner, depth, points, world, normals, rays)
