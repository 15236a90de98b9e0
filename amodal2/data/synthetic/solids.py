"""Convex solids that rays can be cast at, and the toys that are put together from them.

A toy is a union of parts in one body frame. A part is convex: the points whose weighted squared
distance from its centre is at most 1 (a ball, an egg, an endless tube) and that lie on the inner
side of a set of planes. Rays are solved in closed form, with elementwise arithmetic only, so the
same numbers come from any number of threads. Dimensions: P rays, F planes; lengths in metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

_TINY = 1e-300


@dataclass(frozen=True)
class Part:
    """One convex solid, for the ray caster and for the physics engine.

    Attributes:
        weights (ndarray[3]): inverse squared radii about ``centre``; 0 along an axis without bound.
        centre (ndarray[3]): of the quadric.
        normals (ndarray[F, 3]): outward unit normals of the planes.
        offsets (ndarray[F]): distances of the planes from the origin.
        reach (float): no point of the part is farther from the origin.
        kind (str): type of the engine's geometry: "ellipsoid", "cylinder", "box" or "mesh".
        size (tuple[float, ...]): half sizes of that geometry; empty for a mesh.
        axis (int): axis of a cylinder.
        vertices (ndarray[V, 3]): of a mesh.
    """

    weights: Vector
    centre: Vector
    normals: Vector
    offsets: Vector
    reach: float
    kind: str
    size: tuple[float, ...] = ()
    axis: int = 2
    vertices: Vector = field(default_factory=lambda: np.zeros((0, 3)))


def ball(centre: npt.ArrayLike, radii: npt.ArrayLike) -> Part:
    """Make an ellipsoid along the axes (float [3], or one radius for a ball)."""
    middle = np.asarray(centre, np.float64)
    sizes = np.broadcast_to(np.asarray(radii, np.float64), (3,))
    reach = float(np.linalg.norm(middle) + sizes.max())
    none = np.zeros((0, 3)), np.zeros(0)
    return Part(sizes**-2.0, middle, *none, reach, "ellipsoid", tuple(sizes.tolist()))


def tube(centre: npt.ArrayLike, axis: int, radius: float, half: float) -> Part:
    """Make a cylinder along axis 0, 1 or 2 with two flat ends, ``2 * half`` long."""
    middle = np.asarray(centre, np.float64)
    along = np.eye(3)[axis]
    weights = (1.0 - along) * radius**-2.0
    offsets = np.array([half + middle[axis], half - middle[axis]])
    reach = float(np.linalg.norm(middle) + np.hypot(radius, half))
    ends = np.stack([along, -along])
    return Part(weights, middle, ends, offsets, reach, "cylinder", (radius, half), axis)


def block(centre: npt.ArrayLike, halves: npt.ArrayLike) -> Part:
    """Make a box along the axes with half sides ``halves`` (float [3])."""
    middle, sizes = np.asarray(centre, np.float64), np.asarray(halves, np.float64)
    normals = np.concatenate([np.eye(3), -np.eye(3)])
    offsets = np.concatenate([sizes + middle, sizes - middle])
    reach = float(np.linalg.norm(np.abs(middle) + sizes))
    return Part(np.zeros(3), middle, normals, offsets, reach, "box", tuple(float(s) for s in sizes))


def hull(vertices: npt.ArrayLike) -> Part:
    """Make the convex hull of points (float [V, 3])."""
    points = np.asarray(vertices, np.float64)
    found = np.round(ConvexHull(points).equations, 9)
    planes = np.unique(found, axis=0)
    reach = float(np.linalg.norm(points, axis=1).max())
    zero = np.zeros(3)
    return Part(zero, zero, planes[:, :3], -planes[:, 3], reach, "mesh", vertices=points)


def scaled(part: Part, factor: float) -> Part:
    """Return the part ``factor`` times as large, about the origin."""
    return replace(
        part,
        weights=part.weights / factor**2,
        centre=part.centre * factor,
        offsets=part.offsets * factor,
        reach=part.reach * factor,
        size=tuple(size * factor for size in part.size),
        vertices=part.vertices * factor,
    )


def cast_parts(
    parts: tuple[Part, ...], origin: Vector, direction: Vector
) -> tuple[Vector, Index, Index]:
    """Find where rays first enter a union of parts.

    Either all rays start at one point, outside the parts, or all have one direction.

    Args:
        parts (tuple[Part, ...]): the solids, in one body frame.
        origin (float64 [3] or [3, P]): start of the rays in that frame.
        direction (float64 [3] or [3, P]): their directions, of any length.

    Returns:
        tuple: the multiple of the direction at which each ray enters the union (float64 [P], inf
        where it misses), the number of the part that it enters (int64 [P]) and of the plane through
        which it does, -1 for the quadric (int64 [P]).
    """
    shape = np.broadcast(origin[0], direction[0]).shape
    nearest = np.full(shape, np.inf)
    number, plane = np.zeros(shape, np.int64), np.full(shape, -1)
    for index, part in enumerate(parts):
        distance, face = _cast_part(part, origin, direction)
        closer = distance < nearest
        np.copyto(nearest, distance, where=closer)
        np.copyto(plane, face, where=closer)
        number[closer] = index
    return nearest, number, plane


def _cast_part(part: Part, origin: Vector, direction: Vector) -> tuple[Vector, Index]:
    """Return where rays enter a part (inf: nowhere) and through which plane."""
    shape = np.broadcast(origin[0], direction[0]).shape
    enter, leave = np.zeros(shape), np.full(shape, np.inf)
    if part.weights.any():
        enter, leave = _cross_quadric(part, origin, direction)
    face = np.full(shape, -1)
    for index, (normal, offset) in enumerate(zip(part.normals, part.offsets, strict=True)):
        speed = _dot(normal, direction)
        gap = offset - _dot(normal, origin)
        if direction.ndim == 1:
            inwards, crossing = speed < 0, gap / (speed or _TINY)
        else:
            inwards = gap < 0
            with np.errstate(divide="ignore"):
                crossing = gap / speed
            crossing[speed >= 0 if inwards else speed <= 0] = np.inf
        if inwards:
            later = crossing > enter
            np.copyto(enter, crossing, where=later)
            face[later] = index
        else:
            np.minimum(leave, crossing, out=leave)
    enter[(enter >= leave) | (enter <= 0)] = np.inf
    return enter, face


def _dot(one: Vector, other: Vector) -> Any:
    """Return the product of a vector (float64 [3]) with one or many (float64 [3] or [3, P])."""
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _cross_quadric(part: Part, origin: Vector, direction: Vector) -> tuple[Vector, Vector]:
    """Return where rays enter and leave the quadric; nowhere (inf, -inf) if they miss it."""
    start = [origin[k] - part.centre[k] for k in range(3)]
    w = part.weights
    a = sum(w[k] * direction[k] * direction[k] for k in range(3)) + _TINY
    b = sum(w[k] * direction[k] * start[k] for k in range(3))
    c = sum(w[k] * start[k] * start[k] for k in range(3)) - 1.0
    inside = b * b - a * c
    root = np.sqrt(np.maximum(inside, 0.0))
    missed = inside <= 0
    enter, leave = (-b - root) / a, (root - b) / a
    enter[missed], leave[missed] = np.inf, -np.inf
    return enter, leave


def surface_normals(parts: tuple[Part, ...], number: Index, plane: Index, points: Vector) -> Vector:
    """Return the outward unit normals where rays enter a union of parts.

    Args:
        parts (tuple[Part, ...]): the solids, in one body frame.
        number (int64 [R]): the part entered, see :func:`cast_parts`.
        plane (int64 [R]): the plane passed, -1 for the quadric.
        points (float64 [3, R]): where.

    Returns:
        float64 [3, R]: in the body frame.
    """
    normals = np.empty_like(points)
    for index, part in enumerate(parts):
        flat = np.flatnonzero((number == index) & (plane >= 0))
        normals[:, flat] = part.normals[plane[flat]].T
        curved = np.flatnonzero((number == index) & (plane < 0))
        outward = part.weights[:, None] * (points[:, curved] - part.centre[:, None])
        normals[:, curved] = outward / np.sqrt((outward**2).sum(axis=0))
    return normals
