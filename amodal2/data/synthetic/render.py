"""Draw a scene: frames, visible and amodal masks, depth order and optical flow.

Pixel centres lie at integer coordinates, origin at the centre of the top-left pixel, order (x, y).
An actor's amodal mask is where its own alpha exceeds one half, cut at the frame's border; its
visible mask is what is left after taking away the masks of all nearer actors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.noise import FloatImage
from amodal2.data.synthetic.scene import Actor, Scene, check_flow_frame

_HAZE = 0.42
_OPAQUE = 127


@dataclass
class Patch:
    """An actor's own picture at one frame, inside its box.

    Attributes:
        x (int): left column of the box.
        y (int): upper row of the box.
        image (uint8 [h, w, 4]): premultiplied RGBA.
    """

    x: int
    y: int
    image: npt.NDArray[np.uint8]

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the box in the frame."""
        height, width = self.image.shape[:2]
        return slice(self.y, self.y + height), slice(self.x, self.x + width)

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Amodal mask inside the box (bool [h, w])."""
        return self.image[..., 3] > _OPAQUE


@dataclass
class Frame:
    """Everything about one frame.

    Attributes:
        image (uint8 [H, W, 3]): RGB.
        visible (bool [N, H, W]): visible masks of the scene's objects.
        amodal (bool [N, H, W]): amodal masks of the same objects.
        order (list[int]): object numbers 0..N-1 from nearest to farthest.
        flow (float32 [H, W, 2] | None): where each pixel's surface point goes in the next frame.
        depth (float32 [H, W] | None): metres along the optical axis, of scenes that have metres.
    """

    image: npt.NDArray[np.uint8]
    visible: npt.NDArray[np.bool_]
    amodal: npt.NDArray[np.bool_]
    order: list[int]
    flow: FloatImage | None = None
    depth: FloatImage | None = None


class _Placement:
    """An actor's similarity transform (with foreshortening) at one frame, in pixels."""

    def __init__(self, actor: Actor, t: int, width: int) -> None:
        path = actor.trajectory
        self.x = float(path.x[t]) * width - 0.5
        self.y = float(path.y[t]) * width - 0.5
        self.scale = float(path.scale[t]) * width
        self.facing = float(path.facing[t])
        self.cos, self.sin = float(np.cos(path.pitch[t])), float(np.sin(path.pitch[t]))

    def to_screen(self, x: FloatImage, y: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Map plane coordinates to pixels."""
        a, b = x * np.float32(self.facing * self.scale), y * np.float32(self.scale)
        cos, sin = np.float32(self.cos), np.float32(self.sin)
        return cos * a - sin * b + np.float32(self.x), sin * a + cos * b + np.float32(self.y)

    def to_plane(self, x: FloatImage, y: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Map pixels to plane coordinates."""
        a, b = x - np.float32(self.x), y - np.float32(self.y)
        across = 1.0 / (self.facing * self.scale)
        cos, sin, down = self.cos, self.sin, 1.0 / self.scale
        return (
            np.float32(cos * across) * a + np.float32(sin * across) * b,
            np.float32(cos * down) * b - np.float32(sin * down) * a,
        )


def _grid(x0: int, y0: int, x1: int, y1: int) -> tuple[FloatImage, FloatImage]:
    """Return pixel coordinates as broadcastable rows and columns."""
    xs = np.arange(x0, x1, dtype=np.float32)[None, :]
    ys = np.arange(y0, y1, dtype=np.float32)[:, None]
    return xs, ys


def _clip_box(
    x: FloatImage, y: FloatImage, margin: float, height: int, width: int
) -> tuple[int, int, int, int] | None:
    """Return the pixel box around points, cut at the frame; None if nothing is left."""
    x0, x1 = int(np.floor(x.min() - margin)), int(np.ceil(x.max() + margin)) + 1
    y0, y1 = int(np.floor(y.min() - margin)), int(np.ceil(y.max() + margin)) + 1
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def draw_actor(actor: Actor, t: int, height: int, width: int) -> Patch | None:
    """Draw one actor alone.

    Args:
        actor (Actor): what to draw.
        t (int): frame.
        height (int): rows of the frame.
        width (int): columns of the frame.

    Returns:
        Patch | None: its picture; None if its box lies outside the frame.
    """
    place = _Placement(actor, t, width)
    sprite = actor.sprite.level(place.scale)
    u0, v0, u1, v1 = sprite.extent
    corners = np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]], np.float32)
    plane = actor.deformation.to_plane(corners[:, 0], corners[:, 1], t)
    margin = actor.deformation.margin * place.scale + 1.0
    box = _clip_box(*place.to_screen(*plane), margin, height, width)
    if box is None:
        return None
    xs, ys = _grid(*box)
    u, v = actor.deformation.to_material(*place.to_plane(xs, ys), t)
    u, v = (np.ascontiguousarray(np.broadcast_to(a, (ys.size, xs.size))) for a in (u, v))
    patch = Patch(box[0], box[1], sprite.sample(u, v))
    for index in range(len(actor.appendages)):
        _draw_appendage(actor, index, t, patch, u, v, place.scale)
    return patch


def _draw_appendage(
    actor: Actor, index: int, t: int, patch: Patch, u: FloatImage, v: FloatImage, scale: float
) -> None:
    """Draw an appendage over the patch whose material coordinates are ``u`` and ``v``."""
    limb = actor.appendages[index]
    sprite = limb.sprite.level(scale)
    reach = max(abs(value) for value in sprite.extent)
    near = (np.abs(u - np.float32(limb.root[0])) < reach) & (
        np.abs(v - np.float32(limb.root[1])) < reach
    )
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if rows.size == 0:
        return
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    over = sprite.sample(*_turn_back(limb.root, limb.angle(t), u[part], v[part]))
    rest = 255 - over[..., 3:].astype(np.uint16)
    under = patch.image[part].astype(np.uint16)
    patch.image[part] = over + ((under * rest + 127) // 255).astype(np.uint8)


def _turn_back(
    root: tuple[float, float], angle: float, u: FloatImage, v: FloatImage
) -> tuple[FloatImage, FloatImage]:
    """Map body material coordinates to those of a limb turned by ``angle`` about ``root``."""
    a, b = u - np.float32(root[0]), v - np.float32(root[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * a + sin * b, cos * b - sin * a


def _compose(canvas: FloatImage, patch: Patch, haze: FloatImage, depth: float) -> None:
    """Lay a patch over the canvas, faded to the haze according to its depth."""
    fade = np.float32(_HAZE * depth)
    alpha = patch.image[..., 3:].astype(np.float32) * np.float32(1 / 255)
    colour = patch.image[..., :3].astype(np.float32) * ((1 - fade) / np.float32(255))
    colour += alpha * (haze * fade)
    region = canvas[patch.slices]
    region *= 1 - alpha
    region += colour


def render_frame(scene: Scene, t: int, height: int, width: int, *, flow: bool = False) -> Frame:
    """Draw one frame and its labels.

    Args:
        scene (Scene): what to draw.
        t (int): frame, 0..length-1.
        height (int): rows.
        width (int): columns.
        flow (bool): also compute the flow to frame ``t + 1``, which must exist.

    Returns:
        Frame: picture and labels; object n is the n-th annotated actor.

    Raises:
        ValueError: if flow is wanted of the last frame.
    """
    if flow:
        check_flow_frame("render_frame", t, scene.length)
    order = scene.order(t)
    patches = [draw_actor(actor, t, height, width) for actor in scene.actors]
    canvas = scene.backdrop.canvas(t, height, width)
    for index in reversed(order):
        patch = patches[index]
        if patch is not None:
            depth = float(scene.actors[index].trajectory.depth[t])
            _compose(canvas, patch, scene.backdrop.haze, depth)
    lit = scene.backdrop.finish(canvas, t)
    image = np.clip(lit * 255 + 0.5, 0, 255).astype(np.uint8)
    visible, amodal, owner = object_masks(scene, order, patches, height, width)
    number = {index: n for n, index in enumerate(scene.objects())}
    moved = _flow(scene, t, owner) if flow else None
    return Frame(image, visible, amodal, [number[i] for i in order if i in number], moved)


def object_masks(
    scene: Scene, order: list[int], patches: list[Patch | None], height: int, width: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.int16]]:
    """Resolve who hides whom.

    Args:
        scene (Scene): the scene, for which actors are annotated.
        order (list[int]): actors, nearest first.
        patches (list[Patch | None]): picture of each actor.
        height (int): rows of the frame.
        width (int): columns of the frame.

    Returns:
        tuple: visible masks and amodal masks (bool [N, height, width]) of the annotated actors, and
        the actor seen at each pixel (int16 [height, width], -1: background).
    """
    objects = scene.objects()
    number = {index: n for n, index in enumerate(objects)}
    amodal = np.zeros((len(objects), height, width), bool)
    visible = np.zeros_like(amodal)
    owner = np.full((height, width), -1, np.int16)
    for index in order:
        patch = patches[index]
        if patch is None:
            continue
        region = owner[patch.slices]
        seen = patch.mask & (region < 0)
        region[seen] = index
        if index in number:
            amodal[number[index]][patch.slices] = patch.mask
            visible[number[index]][patch.slices] = seen
    return visible, amodal, owner


def _flow(scene: Scene, t: int, owner: npt.NDArray[np.int16]) -> FloatImage:
    """Compute where the surface point seen at each pixel goes in the next frame."""
    height, width = owner.shape
    now, then = scene.backdrop.shift(t), scene.backdrop.shift(t + 1)
    flow = np.empty((height, width, 2), np.float32)
    flow[:] = [(then[0] - now[0]) * width, (then[1] - now[1]) * width]
    for index, actor in enumerate(scene.actors):
        ys, xs = np.nonzero(owner == index)
        if ys.size:
            x, y = xs.astype(np.float32), ys.astype(np.float32)
            moved_x, moved_y = _advance(actor, t, x, y, width)
            flow[ys, xs, 0] = moved_x - x
            flow[ys, xs, 1] = moved_y - y
    return flow


def _advance(
    actor: Actor, t: int, x: FloatImage, y: FloatImage, width: int
) -> tuple[FloatImage, FloatImage]:
    """Return where the actor's points at pixels (x, y) [P] of frame ``t`` are in the next one."""
    place = _Placement(actor, t, width)
    u, v = actor.deformation.to_material(*place.to_plane(x, y), t)
    for limb in actor.appendages:
        a, b = _turn_back(limb.root, limb.angle(t), u, v)
        sprite = limb.sprite.level(place.scale)
        on_limb = sprite.sample(a[:, None], b[:, None])[:, 0, 3] > _OPAQUE
        forward = -limb.angle(t + 1)
        moved_u, moved_v = _turn_back((0.0, 0.0), forward, a, b)
        u = np.where(on_limb, moved_u + np.float32(limb.root[0]), u)
        v = np.where(on_limb, moved_v + np.float32(limb.root[1]), v)
    following = _Placement(actor, t + 1, width)
    return following.to_screen(*actor.deformation.to_plane(u, v, t + 1))
