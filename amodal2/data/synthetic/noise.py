"""Random textures: smooth fractal noise and the ridges that make light caustics."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.floating[Any]]


def fractal_noise(
    rng: np.random.Generator,
    height: int,
    width: int,
    cells: float,
    *,
    octaves: int = 4,
    persistence: float = 0.5,
) -> FloatImage:
    """Sum octaves of smoothly interpolated random grids.

    Args:
        rng (np.random.Generator): source of randomness.
        height (int): rows.
        width (int): columns.
        cells (float): grid cells of the coarsest octave along the width.
        octaves (int): number of grids, each twice as fine as the one before.
        persistence (float): amplitude of an octave relative to the coarser one.

    Returns:
        float32 [height, width]: stretched to the range 0..1.
    """
    total = np.zeros((height, width), np.float32)
    amplitude = 1.0
    for octave in range(octaves):
        columns = max(2, round(cells * 2**octave) + 1)
        rows = max(2, round(cells * 2**octave * height / width) + 1)
        grid = rng.random((rows, columns), dtype=np.float32)
        total += amplitude * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude *= persistence
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def tileable_noise(rng: np.random.Generator, size: int, cells: int) -> FloatImage:
    """Make one octave of smooth noise that continues over its borders.

    Args:
        rng (np.random.Generator): source of randomness.
        size (int): rows and columns; a multiple of ``cells``.
        cells (int): grid cells per side.

    Returns:
        float32 [size, size]: about 0..1.
    """
    step = size // cells
    grid = np.pad(rng.random((cells, cells), dtype=np.float32), 2, mode="wrap")
    side = (cells + 4) * step
    fine = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(fine[2 * step : 2 * step + size, 2 * step : 2 * step + size])


def ridged_noise(rng: np.random.Generator, size: int, cells: int) -> FloatImage:
    """Make a tileable web of thin bright lines, as light on the floor of shallow water.

    Args:
        rng (np.random.Generator): source of randomness.
        size (int): rows and columns; a multiple of ``2 * cells``.
        cells (int): grid cells per side.

    Returns:
        float32 [size, size]: 0..1, bright where the noise crosses its middle.
    """
    noise = 0.75 * tileable_noise(rng, size, cells) + 0.25 * tileable_noise(rng, size, 2 * cells)
    return np.clip(1.0 - 3.2 * np.abs(noise - np.float32(noise.mean())), 0.0, 1.0)
