"""Textured cut-outs (sprites) and the canvas on which they are drawn.

A sprite lives in material coordinates (u, v): u to the right, v downwards, one unit being the
length of a fish or the height of a plant or rock. What moves a sprite is in ``warp.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.noise import FloatImage, fractal_noise

Points = Sequence[tuple[float, float]]
Colour = tuple[float, float, float] | FloatImage

_SUPERSAMPLE = 2
_SHIFT = 6


@dataclass
class Sprite:
    """A premultiplied RGBA picture with its place in material coordinates.

    Attributes:
        image (uint8 [h, w, 4]): RGB multiplied by alpha, and alpha.
        pixels_per_unit (float): resolution.
        origin (tuple[float, float]): pixel (x, y) of the material point (0, 0).
    """

    image: npt.NDArray[np.uint8]
    pixels_per_unit: float
    origin: tuple[float, float]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Material box (u0, v0, u1, v1) of the picture."""
        height, width = self.image.shape[:2]
        scale = 1.0 / self.pixels_per_unit
        x, y = self.origin
        return -x * scale, -y * scale, (width - 1 - x) * scale, (height - 1 - y) * scale

    @cached_property
    def _levels(self) -> list[Sprite]:
        """The sprite itself and its halvings, for sampling without aliasing."""
        levels = [self]
        while min(levels[-1].image.shape[:2]) >= 16:
            last = levels[-1]
            height, width = last.image.shape[:2]
            even = cv2.copyMakeBorder(
                last.image, 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT, value=0
            )
            small = cv2.resize(
                even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA
            )
            origin = ((last.origin[0] - 0.5) / 2, (last.origin[1] - 0.5) / 2)
            levels.append(Sprite(small, last.pixels_per_unit / 2, origin))
        return levels

    def level(self, pixels_per_unit: float) -> Sprite:
        """Return the halving whose resolution suits ``pixels_per_unit`` screen pixels per unit."""
        ratio = self.pixels_per_unit / max(pixels_per_unit, 1e-6)
        index = int(np.floor(np.log2(max(ratio, 1.0)) + 0.35))
        return self._levels[min(index, len(self._levels) - 1)]

    def sample(self, u: FloatImage, v: FloatImage) -> npt.NDArray[np.uint8]:
        """Look the picture up, bilinearly; transparent outside.

        Args:
            u (float32 [h, w]): material coordinates.
            v (float32 [h, w]): material coordinates.

        Returns:
            uint8 [h, w, 4]: premultiplied RGBA.
        """
        x = u * np.float32(self.pixels_per_unit) + np.float32(self.origin[0])
        y = v * np.float32(self.pixels_per_unit) + np.float32(self.origin[1])
        return cv2.remap(
            self.image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )


class Canvas:
    """Draws a sprite at twice its resolution in material coordinates.

    Attributes:
        u (float32 [h, w]): material coordinate of every pixel.
        v (float32 [h, w]): material coordinate of every pixel.
    """

    def __init__(self, extent: tuple[float, float, float, float], pixels_per_unit: float) -> None:
        """Start with a transparent picture.

        Args:
            extent (tuple): material box (u0, v0, u1, v1).
            pixels_per_unit (float): resolution of the finished sprite.
        """
        self._scale = pixels_per_unit * _SUPERSAMPLE
        self._pixels_per_unit = pixels_per_unit
        u0, v0, u1, v1 = extent
        width = int(np.ceil((u1 - u0) * pixels_per_unit)) * _SUPERSAMPLE
        height = int(np.ceil((v1 - v0) * pixels_per_unit)) * _SUPERSAMPLE
        self._start = (u0, v0)
        self.rgb = np.zeros((height, width, 3), np.float32)
        self.alpha = np.zeros((height, width), np.float32)
        x = (np.arange(width, dtype=np.float32) + 0.5) / self._scale + u0
        y = (np.arange(height, dtype=np.float32) + 0.5) / self._scale + v0
        self.u = np.ascontiguousarray(np.broadcast_to(x[None], (height, width)))
        self.v = np.ascontiguousarray(np.broadcast_to(y[:, None], (height, width)))

    def window(self, centre: tuple[float, float], reach: float) -> Canvas:
        """Return a canvas that draws on the part of this one around ``centre``, sharing its memory.

        Args:
            centre (tuple[float, float]): material point.
            reach (float): half of the part's side, in material units.

        Returns:
            Canvas: the part; may be empty.
        """
        height, width = self.alpha.shape
        x, y = ((c - s) * self._scale for c, s in zip(centre, self._start, strict=True))
        half = reach * self._scale
        x0, x1 = (int(np.clip(np.floor(x + k * half), 0, width)) for k in (-1, 1))
        y0, y1 = (int(np.clip(np.floor(y + k * half), 0, height)) for k in (-1, 1))
        part = Canvas.__new__(Canvas)
        part._scale, part._pixels_per_unit = self._scale, self._pixels_per_unit
        part._start = (self._start[0] + x0 / self._scale, self._start[1] + y0 / self._scale)
        box = slice(y0, y1), slice(x0, x1)
        part.rgb, part.alpha = self.rgb[box], self.alpha[box]
        part.u, part.v = self.u[box], self.v[box]
        return part

    def _pixels(self, points: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Turn material points [P, 2] into fixed-point pixel coordinates of OpenCV."""
        array = (np.asarray(points, np.float64) - self._start) * self._scale - 0.5
        return np.round(array * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, points: Points, *, smooth: bool = True) -> FloatImage:
        """Rasterise a closed outline.

        Args:
            points (Points): corners in material coordinates.
            smooth (bool): bend the sides through the corners (Catmull-Rom) or keep them straight.

        Returns:
            float32 [h, w]: coverage 0..1.
        """
        outline = smooth_outline(points) if smooth else np.asarray(points, np.float64)
        mask = np.zeros(self.alpha.shape, np.uint8)
        cv2.fillPoly(mask, [self._pixels(outline)], 255, cv2.LINE_AA, _SHIFT)
        return mask.astype(np.float32) / 255

    def disc(self, centre: tuple[float, float], radius: float) -> FloatImage:
        """Return the coverage (float32 [h, w]) of a disc of material ``radius``."""
        distance = np.hypot(self.u - centre[0], self.v - centre[1])
        return np.clip((radius - distance) * self._scale + 0.5, 0.0, 1.0)

    def discs(self, centres: Points, radii: Sequence[float]) -> FloatImage:
        """Return the coverage (float32 [h, w]) of many discs of material ``radii``."""
        mask = np.zeros(self.alpha.shape, np.uint8)
        for centre, radius in zip(centres, radii, strict=True):
            pixel = self._pixels([centre])[0]
            size = max(1, round(radius * self._scale * (1 << _SHIFT)))
            cv2.circle(mask, (int(pixel[0]), int(pixel[1])), size, 255, -1, cv2.LINE_AA, _SHIFT)
        return mask.astype(np.float32) / 255

    def line(self, points: Points, width: float) -> FloatImage:
        """Return the coverage (float32 [h, w]) of an open line of material ``width``."""
        mask = np.zeros(self.alpha.shape, np.uint8)
        thickness = max(1, round(width * self._scale))
        cv2.polylines(mask, [self._pixels(points)], False, 255, thickness, cv2.LINE_AA, _SHIFT)
        return mask.astype(np.float32) / 255

    def noise(self, rng: np.random.Generator, cells: float, *, octaves: int = 3) -> FloatImage:
        """Return fractal noise (float32 [h, w], 0..1) with ``cells`` cells per material unit."""
        height, width = self.alpha.shape
        return fractal_noise(rng, height, width, cells * width / self._scale, octaves=octaves)

    def rounding(self, mask: FloatImage, depth: float, darkest: float) -> FloatImage:
        """Shade a shape as if it were rounded: dark at its outline.

        Args:
            mask (float32 [h, w]): the shape.
            depth (float): material distance over which the shade fades.
            darkest (float): factor at the outline.

        Returns:
            float32 [h, w]: factor for the colour, ``darkest`` to 1.
        """
        distance = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        inside = np.clip(distance / (depth * self._scale), 0.0, 1.0)
        return darkest + (1.0 - darkest) * np.sqrt(inside)

    def paint(self, mask: FloatImage, colour: Colour) -> None:
        """Lay an opaque colour over the picture.

        Args:
            mask (float32 [h, w]): coverage 0..1.
            colour (Colour): one RGB triple, or float32 [h, w, 3]; 0..1.
        """
        layer = np.asarray(colour, np.float32)
        self.rgb += mask[..., None] * (layer - self.rgb)
        np.maximum(self.alpha, mask, out=self.alpha)

    def tint(self, mask: FloatImage, colour: Colour) -> None:
        """Lay a colour over what is drawn already, without enlarging the shape."""
        layer = np.asarray(colour, np.float32)
        self.rgb += mask[..., None] * (layer - self.rgb)

    def shade(self, factor: FloatImage) -> None:
        """Multiply the colours by ``factor`` (float32 [h, w])."""
        self.rgb *= factor[..., None]

    def vary(self, hue: float, saturation: float, value: float) -> None:
        """Turn the hue (degrees) and scale saturation and value of the whole picture."""
        hsv = cv2.cvtColor(np.clip(self.rgb, 0.0, 1.0), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + hue) % 360.0
        hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0.0, 1.0)
        hsv[..., 2] = np.clip(hsv[..., 2] * value, 0.0, 1.0)
        self.rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)

    def finish(self) -> Sprite:
        """Return the picture as a sprite, cut to its drawn part."""
        alpha = np.clip(self.alpha, 0.0, 1.0)[..., None]
        image = np.concatenate([np.clip(self.rgb, 0.0, 1.0) * alpha, alpha], axis=2)
        height, width = self.alpha.shape
        size = (width // _SUPERSAMPLE, height // _SUPERSAMPLE)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        drawn = np.round(small * 255).astype(np.uint8)
        rows = np.flatnonzero(drawn[..., 3].any(axis=1))
        columns = np.flatnonzero(drawn[..., 3].any(axis=0))
        y0, y1 = max(rows[0] - 2, 0), min(rows[-1] + 3, size[1])
        x0, x1 = max(columns[0] - 2, 0), min(columns[-1] + 3, size[0])
        origin = (
            -self._start[0] * self._pixels_per_unit - 0.5 - x0,
            -self._start[1] * self._pixels_per_unit - 0.5 - y0,
        )
        return Sprite(np.ascontiguousarray(drawn[y0:y1, x0:x1]), self._pixels_per_unit, origin)


def smooth_outline(points: Points, *, steps: int = 10) -> npt.NDArray[np.float64]:
    """Put a closed Catmull-Rom curve through the points.

    Args:
        points (Points): corners (u, v), at least three.
        steps (int): points per side of the result.

    Returns:
        float64 [len(points) * steps, 2]: the dense outline.
    """
    p1 = np.asarray(points, np.float64)
    p0, p2, p3 = np.roll(p1, 1, axis=0), np.roll(p1, -1, axis=0), np.roll(p1, -2, axis=0)
    s = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (p[:, None] for p in (p0, p1, p2, p3))
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * s
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * s**2
        + (3 * p1 - p0 - 3 * p2 + p3) * s**3
    )
    return curve.reshape(-1, 2)
