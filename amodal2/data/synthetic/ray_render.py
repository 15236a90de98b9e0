"""Draw a playroom by casting rays: pictures, masks, depth, order and optical flow.

Rays go through pixel centres, (x, y) integers. A toy's amodal mask is where rays hit it when it is
alone; its visible mask is where they hit it first. Silhouettes and creases of the picture are
smoothed by four more rays per pixel, labels are not. Dimensions: N toys, P rays, R hits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.cameras import ParallelRays, Pinhole, axes_along, turn
from amodal2.data.synthetic.noise import FloatImage
from amodal2.data.synthetic.playroom import Playroom
from amodal2.data.synthetic.ray_cast import (
    FAR,
    FLOOR,
    SKY,
    Hit,
    Raster,
    Surface,
    cast_rays,
    resolve_rays,
)
from amodal2.data.synthetic.render import Frame
from amodal2.data.synthetic.scene import check_flow_frame
from amodal2.data.synthetic.solids import Vector

_SUBPIXELS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
_CREASE = 0.9
_SHADOW_REACH = 4.5
_SHADOW_MARGIN = 0.06
_FOG = 0.02


def render_playroom(
    scene: Playroom, t: int, height: int, width: int, *, flow: bool = False
) -> Frame:
    """Draw one frame and its labels.

    Args:
        scene (Playroom): what to draw.
        t (int): frame, 0..length-1.
        height (int): rows.
        width (int): columns.
        flow (bool): also compute the flow to frame ``t + 1``, which must exist.

    Returns:
        Frame: picture, labels and depth.

    Raises:
        ValueError: if flow is wanted of the last frame.
    """
    if flow:
        check_flow_frame("render_playroom", t, scene.length)
    camera, pixels = scene.camera(t, height, width), Raster.whole(height, width)
    hits = list(cast_rays(scene, t, camera, pixels))
    surface = resolve_rays(scene, t, camera, pixels, hits)
    amodal, order = _labels(hits, height * width)
    visible = surface.owner == np.arange(len(hits))[:, None]
    lit = _light(scene, t, max(height, width))
    image = _shade(scene, camera, surface, lit)
    _smooth_edges(scene, t, camera, surface, image, lit)
    size = (height, width)
    return Frame(
        np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8).reshape(*size, 3),
        visible.reshape(-1, *size),
        amodal.reshape(-1, *size),
        order,
        _flow(scene, t, surface, pixels, height, width) if flow else None,
        surface.depth.astype(np.float32).reshape(size),
    )


def _labels(hits: list[Hit], count: int) -> tuple[npt.NDArray[np.bool_], list[int]]:
    """Return amodal masks (bool [N, count]) and an order from nearest to farthest.

    Of the toys that are left, the one comes first of which the others hide the fewest pixels, and
    of equals the nearest. So a toy that hides another stands before it, unless toys hide each other
    in turn.
    """
    whole = np.full((len(hits), count), np.inf, np.float32)
    for n, hit in enumerate(hits):
        whole[n, hit.places] = hit.depth
    amodal = np.isfinite(whole)
    crowd = whole[:, np.flatnonzero(amodal.sum(axis=0) > 1)]
    hides = np.zeros((len(hits), len(hits)))
    for n, depth in enumerate(crowd):
        own = np.flatnonzero(np.isfinite(depth))
        hides[:, n] = (crowd[:, own] < depth[own]).sum(axis=1)
    nearness = [float(hit.depth.min()) if hit.depth.size else FAR for hit in hits]
    left, order = list(range(len(hits))), []
    while left:
        first = min(left, key=lambda n: (hides[left, n].sum(), nearness[n], n))
        order.append(first)
        left.remove(first)
    return amodal, order


def _light(scene: Playroom, t: int, size: int) -> tuple[ParallelRays, FloatImage]:
    """Return the lamp's view, ``size`` pixels a side, and how far its light comes in each."""
    view = ParallelRays(axes_along(-scene.lamp.direction), _SHADOW_REACH, size)
    pixels = Raster.whole(size, size)
    reached = np.full(len(pixels.x), np.inf)
    for hit in cast_rays(scene, t, view, pixels):
        reached[hit.places] = np.minimum(reached[hit.places], hit.depth)
    return view, reached.reshape(size, size).astype(np.float32)


def _lit(view: ParallelRays, reached: FloatImage, points: Vector) -> Vector:
    """Return the share of direct light (float64 [P]) at points of the world (float64 [3, P])."""
    x, y, depth = view.project(points)
    left, upper = np.floor(x).astype(int), np.floor(y).astype(int)
    inside = (left >= 0) & (upper >= 0) & (left < view.size - 1) & (upper < view.size - 1)
    left, upper = np.where(inside, left, 0), np.where(inside, upper, 0)
    share_x, share_y = x - left, y - upper
    light = np.zeros(len(depth))
    for down, weight_y in ((0, 1 - share_y), (1, share_y)):
        for right, weight_x in ((0, 1 - share_x), (1, share_x)):
            clear = reached[upper + down, left + right] > depth
            light += weight_x * weight_y * clear
    return np.where(inside, light, 1.0)


def _shade(
    scene: Playroom, camera: Pinhole, surface: Surface, lit: tuple[ParallelRays, FloatImage]
) -> Vector:
    """Return the colours (float64 [P, 3]) of what rays see."""
    colour, gloss = _paint(scene, camera, surface)
    lamp, normals = scene.lamp, surface.normals
    facing = sum(lamp.direction[k] * normals[k] for k in range(3))
    direct = np.maximum(facing, 0.0)
    solid = surface.owner != SKY
    direct *= _lit(*lit, surface.world + _SHADOW_MARGIN * normals)
    sky = 0.62 + 0.38 * normals[2]
    light = 1.7 * lamp.strength * direct + 1.25 * (1 - lamp.strength) * sky
    light[~solid] = 1.0
    image = colour * light[:, None]
    shiny = np.flatnonzero(gloss * direct > 0)
    mirror = _highlight(lamp.direction, surface.rays[:, shiny], normals[:, shiny])
    image[shiny] += (gloss[shiny] * direct[shiny] * mirror)[:, None]
    fog = 1.0 - np.exp(-_FOG * np.maximum(surface.depth - 6.0, 0.0))
    return image + np.where(solid, fog, 0.0)[:, None] * (scene.floor.sky - image)


def _paint(scene: Playroom, camera: Pinhole, surface: Surface) -> tuple[Vector, Vector]:
    """Return colours (float64 [P, 3]) without light, and gloss (float64 [P])."""
    colour, gloss = np.empty((len(surface.owner), 3)), np.zeros(len(surface.owner))
    up = np.clip(surface.rays[2], 0.0, 1.0)
    colour[:] = scene.floor.sky * (1.0 - 0.3 * up[:, None])
    ground = np.flatnonzero(surface.owner == FLOOR)
    x, y, _ = surface.points[:, ground]
    colour[ground] = scene.floor.paint(x, y, surface.depth[ground], 1 / camera.focal)
    for n, look in enumerate(scene.looks):
        own = np.flatnonzero(surface.owner == n)
        if own.size:
            colour[own], gloss[own] = look.paint(surface.points[:, own]), look.gloss
    return colour, gloss


def _highlight(towards: Vector, rays: Vector, normals: Vector) -> Vector:
    """Return the lamp's mirror image (float64 [P], 0..1), after Blinn."""
    half = towards[:, None] - rays / np.sqrt((rays**2).sum(axis=0))
    along = (half * normals).sum(axis=0) / np.sqrt((half**2).sum(axis=0))
    return np.maximum(along, 0.0) ** 32


def _smooth_edges(
    scene: Playroom,
    t: int,
    camera: Pinhole,
    surface: Surface,
    image: Vector,
    lit: tuple[ParallelRays, FloatImage],
) -> None:
    """Replace the colours (float64 [P, 3]) at silhouettes and creases by the mean of four."""
    size = (camera.height, camera.width)
    owner, normals = surface.owner.reshape(size), surface.normals.reshape(3, *size)
    edge = np.zeros(size, bool)
    for axis in (0, 1):
        one, other = _neighbours(owner, axis)
        first, second = _neighbours(normals, axis + 1)
        bend = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
        change = (one != other) | (bend < _CREASE)
        for part in _neighbours(edge, axis):
            part |= change
    y, x = np.nonzero(edge)
    right, down = np.array(_SUBPIXELS).T
    finer = Raster((x[:, None] + right).ravel(), (y[:, None] + down).ravel())
    seen = resolve_rays(scene, t, camera, finer, list(cast_rays(scene, t, camera, finer)))
    colours = np.minimum(_shade(scene, camera, seen, lit), 1.0)
    image[y * camera.width + x] = colours.reshape(len(x), -1, 3).mean(axis=1)


def _neighbours(values: npt.NDArray, axis: int) -> tuple[npt.NDArray, npt.NDArray]:
    """Return two views whose equal places are neighbours along an axis."""
    length = values.shape[axis]
    index = [slice(None)] * values.ndim
    views = []
    for part in (slice(0, length - 1), slice(1, length)):
        index[axis] = part
        views.append(values[tuple(index)])
    return views[0], views[1]


def _flow(
    scene: Playroom, t: int, surface: Surface, pixels: Raster, height: int, width: int
) -> FloatImage:
    """Compute where the surface point seen at each pixel goes in the next frame."""
    points = surface.points.copy()
    for n in range(len(scene.bodies)):
        own = np.flatnonzero(surface.owner == n)
        if own.size:
            moved = turn(scene.motion.rotations[t + 1, n], points[:, own])
            points[:, own] = moved + scene.motion.positions[t + 1, n][:, None]
    column, row, _ = scene.camera(t + 1, height, width).project(points)
    return (
        np.stack([column - pixels.x, row - pixels.y], axis=1)
        .astype(np.float32)
        .reshape(height, width, 2)
    )
