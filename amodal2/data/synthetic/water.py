"""The aquarium's backdrop: water, a distant ridge, sand, caustics, rays and floating specks."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.noise import FloatImage, fractal_noise, ridged_noise

_TILE = 192
_MARGIN = 0.08
_WATERS = (
    ((0.36, 0.72, 0.82), (0.04, 0.2, 0.36)),
    ((0.3, 0.7, 0.66), (0.03, 0.22, 0.26)),
    ((0.34, 0.6, 0.9), (0.04, 0.12, 0.36)),
    ((0.5, 0.72, 0.56), (0.1, 0.24, 0.18)),
    ((0.42, 0.56, 0.74), (0.08, 0.12, 0.26)),
)
_SANDS = ((0.76, 0.68, 0.5), (0.6, 0.56, 0.48), (0.7, 0.58, 0.42), (0.5, 0.46, 0.36))


class Water:
    """Background and light of one aquarium; implements ``scene.Backdrop``.

    Attributes:
        haze (float32 [3]): colour of distant water.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        aspect: float,
        drift: npt.NDArray[np.float64],
    ) -> None:
        """Choose colours and textures.

        Args:
            rng (np.random.Generator): source of all choices.
            aspect (float): height over width of the picture.
            drift (float64 [T, 2]): displacement of the background in image widths.
        """
        self._aspect = aspect
        self._drift = drift
        top, deep = _WATERS[int(rng.integers(len(_WATERS)))]
        bright = rng.uniform(0.8, 1.1)
        self._top = np.asarray(top, np.float32) * np.float32(bright)
        self._deep = np.asarray(deep, np.float32) * np.float32(bright)
        self.haze = (0.45 * self._top + 0.55 * self._deep).astype(np.float32)
        self._sand = np.asarray(_SANDS[int(rng.integers(len(_SANDS)))], np.float32)
        self._horizon = float(aspect * rng.uniform(0.68, 0.82))
        self._seed = int(rng.integers(2**31))
        self._webs = [ridged_noise(rng, _TILE, 6), ridged_noise(rng, _TILE, 8)]
        self._speed = rng.uniform(0.5, 1.0, 2)
        self._shafts = fractal_noise(rng, 1, 512, 14.0, octaves=3)[0]
        self._slant = float(rng.uniform(-0.5, 0.5))
        self._ray = float(rng.uniform(0.1, 0.24))
        self._glitter = float(rng.uniform(0.22, 0.4))
        count = int(rng.integers(18, 40))
        self._specks = rng.random((count, 2)) * (1.1, aspect)
        self._speck_size = rng.uniform(0.0011, 0.0028, count)
        self._speck_drift = rng.uniform(-0.0012, 0.0012, (count, 2)) - np.array([0.0, 0.0006])

    def shift(self, t: int) -> tuple[float, float]:
        """Return the background's displacement (x, y) at frame ``t`` in image widths."""
        return float(self._drift[t, 0]), float(self._drift[t, 1])

    def canvas(self, t: int, height: int, width: int) -> FloatImage:
        """Return the background (float32 [height, width, 3], RGB 0..1) at frame ``t``."""
        still = self._still(width)
        x, y = self.shift(t)
        matrix = np.array(
            [[1.0, 0.0, (x - _MARGIN) * width], [0.0, 1.0, (y - _MARGIN) * width]], np.float64
        )
        return cv2.warpAffine(
            still, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    @lru_cache(maxsize=2)  # noqa: B019 - a Water lives as long as its video
    def _still(self, width: int) -> FloatImage:
        """Paint the unmoving background with a margin for the drift."""
        rng = np.random.default_rng(self._seed)
        rows = int(np.ceil((self._aspect + 2 * _MARGIN) * width))
        columns = int(np.ceil((1 + 2 * _MARGIN) * width))
        y = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) / width - _MARGIN
        blend = np.clip(y / self._horizon, 0.0, 1.0)[..., None] ** np.float32(0.8)
        picture = self._top * (1 - blend) + self._deep * blend
        picture = np.ascontiguousarray(np.broadcast_to(picture, (rows, columns, 3)))
        clouds = fractal_noise(rng, rows, columns, 5.0, octaves=4)
        picture *= (0.86 + 0.28 * clouds)[..., None]
        self._paint_ridges(rng, picture, y, width)
        self._paint_sand(rng, picture, y)
        return picture

    def _paint_ridges(
        self, rng: np.random.Generator, picture: FloatImage, y: FloatImage, width: int
    ) -> None:
        """Paint two hazy rows of distant rocks."""
        rows, columns = picture.shape[:2]
        for layer, (height, strength) in enumerate(((0.26, 0.35), (0.14, 0.6))):
            profile = fractal_noise(rng, 1, columns, 5.0 + 4.0 * layer, octaves=5)[0]
            crest = self._horizon - height * self._aspect * profile
            cover = np.clip((y - crest[None]) * width * 0.6, 0.0, 1.0) * np.float32(strength)
            grain = fractal_noise(rng, rows, columns, 24.0, octaves=3)
            colour = self._deep * 0.8 * (0.7 + 0.6 * grain)[..., None]
            picture += cover[..., None] * (colour - picture)

    def _paint_sand(self, rng: np.random.Generator, picture: FloatImage, y: FloatImage) -> None:
        """Paint the floor: ripples that get wider towards the viewer, stones and haze."""
        rows, columns = picture.shape[:2]
        near = np.clip((y - self._horizon) / (self._aspect - self._horizon), 0.0, 1.3)
        warp = fractal_noise(rng, rows, columns, 6.0, octaves=3)
        grain = fractal_noise(rng, rows, columns, 60.0, octaves=2)
        ripples = np.sin(34.0 * np.sqrt(near + 0.05) + 9.0 * warp)
        shade = 0.66 + 0.3 * near + 0.1 * ripples * near + 0.3 * (grain - 0.5)
        sand = self._sand * shade[..., None].astype(np.float32)
        haze = np.clip(1.0 - 1.4 * near, 0.0, 0.85)[..., None]
        sand += haze * (self.haze * 0.8 - sand)
        edge = self._horizon + 0.03 * (warp[:1] - 0.5)
        cover = np.clip((y - edge) * 60.0, 0.0, 1.0)
        picture += cover[..., None] * (sand - picture)

    def _web(self, t: int, height: int, width: int) -> FloatImage:
        """Return the caustics of frame ``t``: 0..1, mean about 0.15."""
        result: FloatImage | None = None
        zoom = np.float32(_TILE / (0.55 * width))
        ys = np.arange(height, dtype=np.float32)[:, None]
        xs = np.arange(width, dtype=np.float32)[None, :]
        for index, web in enumerate(self._webs):
            sign = 1.0 if index == 0 else -1.0
            wobble = np.sin(xs * np.float32(9.0 / width) + np.float32(0.11 * t + index))
            x = xs * zoom + np.float32(sign * self._speed[index] * t) + 0 * ys
            y = ys * zoom * np.float32(1.5) + np.float32(0.6 * self._speed[index] * t) + 4 * wobble
            layer = cv2.remap(
                web, x % _TILE, y % _TILE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
            )
            result = layer if result is None else np.minimum(result, layer) + 0.25 * result * layer
        assert result is not None, "_web: expected at least one layer of caustics"
        return result

    def finish(self, picture: FloatImage, t: int) -> FloatImage:
        """Light the composed picture (float32 [H, W, 3]) of frame ``t``."""
        height, width = picture.shape[:2]
        ys = np.arange(height, dtype=np.float32)[:, None] / width
        xs = np.arange(width, dtype=np.float32)[None, :] / width
        depth = ys / np.float32(self._aspect)
        near_floor = np.float32(0.22) + np.float32(0.78) * np.clip(depth * 1.6 - 0.5, 0, 1)
        light = (
            1.04
            - 0.16 * depth
            + np.float32(2.2 * self._glitter) * self._web(t, height, width) * near_floor
        )
        lit = picture * light[..., None]
        place = (xs + np.float32(self._slant) * ys) * 300 + np.float32(0.35 * t) + 60
        shaft = np.interp(place.ravel(), np.arange(512), self._shafts).reshape(place.shape)
        rays = np.clip(shaft.astype(np.float32) - 0.45, 0, 1) * np.clip(1 - 1.15 * depth, 0, 1)
        lit += (np.float32(2.0 * self._ray) * rays)[..., None] * self._top
        specks = self._speck_layer(t, height, width)
        lit += specks[..., None] * np.float32(0.32 / 255)
        return lit

    def _speck_layer(self, t: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Draw the floating specks of frame ``t`` (uint8 [height, width])."""
        layer = np.zeros((height, width), np.uint8)
        places = (self._specks + self._speck_drift * t) % (1.1, self._aspect) - (0.05, 0.0)
        for (x, y), size in zip(places, self._speck_size, strict=True):
            centre = round(x * width * 16), round(y * width * 16)
            cv2.circle(layer, centre, max(8, round(size * width * 16)), 255, -1, cv2.LINE_AA, 4)
        return layer
