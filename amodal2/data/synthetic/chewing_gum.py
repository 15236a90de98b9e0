"""Chewing Gum, the toy videos of SaVos (Yao et al., 2022): two flat polygons, one walks round.

Two variants. "official" is the released generator: 7 to 11 vertices, and a square that moves with
the lower object and hides a quadrant of it, so that 29 % of that object are never seen. "paper"
follows the text: 7 to 12 vertices, and every part is seen in some frame, so no square.

The canvas has 50 rows and 56 columns; points are (x, y) in pixels. Dimensions: T frames, H W
canvas.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

HEIGHT, WIDTH = 50, 56
FRAMES = 40
CATEGORIES = {1: "gum"}
VARIANTS = {"official": (11, True), "paper": (12, False)}
"""Name -> most vertices, and whether there is a square."""

_LEAST_VERTICES = 7
_CENTRE = np.array([28, 25])
_LOW, _HIGH = np.array([20, 17]), np.array([36, 33])
_STEP = 2
_RADIUS = 8
_QUARTER = (
    (0, -8), (-1, -7), (-2, -7), (-3, -7), (-4, -6), (-5, -6), (-6, -5), (-6, -4), (-7, -3),
    (-7, -2), (-7, -1),
)  # fmt: skip
_POOL = np.array(
    [*_QUARTER]
    + [(y, -x) for x, y in _QUARTER]
    + [(-x, -y) for x, y in _QUARTER]
    + [(-y, x) for x, y in _QUARTER]
)
"""The vertices to choose from, relative to the centre, in cyclic order."""


@dataclass(frozen=True)
class GumVideo:
    """One video; object 0 rests and object 1 walks.

    Attributes:
        images (ndarray[T, H, W, 3]): uint8 RGB.
        visible (ndarray[2, T, H, W]): bool.
        amodal (ndarray[2, T, H, W]): bool.
        bottom (int): the object that the other one hides.
        forward (ndarray[T, H, W, 2]): int8 exact flow (x, y) to the next frame; 0 in the last.
        backward (ndarray[T, H, W, 2]): int8 exact flow to the frame before; 0 in the first.
    """

    images: npt.NDArray[np.uint8]
    visible: npt.NDArray[np.bool_]
    amodal: npt.NDArray[np.bool_]
    bottom: int
    forward: npt.NDArray[np.int8]
    backward: npt.NDArray[np.int8]


def make_chewing_gum(
    rng: np.random.Generator, variant: str = "paper", frames: int = FRAMES
) -> GumVideo:
    """Make up one video.

    Args:
        rng: the only source of randomness.
        variant: "paper" or "official", see the module's docstring.
        frames: T; the walk repeats after 32.

    Returns:
        GumVideo: the video with everything that is known about it.

    Raises:
        ValueError: if there is no such variant or no frame.
    """
    if variant not in VARIANTS or frames < 1:
        raise ValueError(
            f"make_chewing_gum: expected a variant of {sorted(VARIANTS)} and frames >= 1, got "
            f"{variant!r} and {frames}"
        )
    most, with_square = VARIANTS[variant]
    shapes = [_shape(rng, most) for _ in range(2)]
    background = rng.integers(0, 128, 3)
    colours = rng.integers(0, 256, (3, 3))
    bottom = int(rng.integers(2))
    start = np.where(rng.integers(0, 2, 2), _HIGH, _LOW)
    shift = _RADIUS * rng.integers(0, 2, 2)
    paths = np.stack([np.tile(_CENTRE, (frames, 1)), _walk(start, frames)])
    amodal = np.stack(
        [
            np.stack([_draw(shape + place) for place in path])
            for shape, path in zip(shapes, paths, strict=True)
        ]
    )
    square = np.zeros((frames, HEIGHT, WIDTH), dtype=bool)
    if with_square:
        for t, (x, y) in enumerate(paths[bottom] - _RADIUS + shift):
            square[t, y : y + _RADIUS + 1, x : x + _RADIUS + 1] = True
    top = 1 - bottom
    visible = amodal.copy()
    visible[bottom] &= ~(amodal[top] | square)
    images = np.empty((frames, HEIGHT, WIDTH, 3), np.uint8)
    images[:] = background
    for mask, colour in zip((amodal[bottom], square, amodal[top]), colours, strict=True):
        images[mask] = colour
    moving = visible[1] | (square & ~amodal[top] if bottom == 1 else False)
    steps = np.diff(paths[1], axis=0, append=paths[1][-1:])
    back = np.concatenate([np.zeros((1, 2), int), -steps[:-1]])
    forward, backward = (
        (moving[..., None] * step[:, None, None, :]).astype(np.int8) for step in (steps, back)
    )
    return GumVideo(images, visible, amodal, bottom, forward, backward)


def _shape(rng: np.random.Generator, most: int) -> npt.NDArray[np.int64]:
    """Choose vertices of the pool (ndarray[N, 2]), in cyclic order."""
    count = int(rng.integers(_LEAST_VERTICES, most + 1))
    return _POOL[np.sort(rng.choice(len(_POOL), count, replace=False))]


def _draw(vertices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [vertices.astype(np.int32)], 1)
    return mask.astype(bool)


def _walk(start: npt.NDArray[np.int64], frames: int) -> npt.NDArray[np.int64]:
    """Walk along the border of the rectangle (ndarray[T, 2])."""
    place, velocity = start.copy(), np.array([-_STEP, 0])
    path = []
    for _ in range(frames):
        path.append(place.copy())
        x, y = place
        if not _LOW[0] <= x + velocity[0] <= _HIGH[0]:
            velocity = np.array([0, _STEP if y < _CENTRE[1] else -_STEP])
        if not _LOW[1] <= y + velocity[1] <= _HIGH[1]:
            velocity = np.array([_STEP if x < _CENTRE[0] else -_STEP, 0])
        place = place + velocity
    return np.array(path)
