"""Crop, resize and flip of whole clips.

A sample has one :class:`ClipGeometry`, drawn by :class:`GeometrySampler` from a given random
generator and applied to every frame and every mask. Order of the steps: crop (in source pixels),
resize, flip, as in Detectron2's default mapper. Frames are resampled bilinearly with antialiasing
(Pillow, as Detectron2 does), masks by the nearest pixel centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from detectron2.config import CfgNode

from amodal2.utils.resize import resize_frame, shortest_edge_size

_CROP_TYPES = ("relative", "relative_range", "absolute", "absolute_range")
_FLIPS = ("none", "horizontal", "vertical")


@dataclass(frozen=True)
class ClipGeometry:
    """One crop, resize and flip, the same for all frames of a sample.

    Attributes:
        crop (tuple[int, int, int, int]): top, left, height, width of the kept region in source
            pixels.
        size (tuple[int, int]): output height and width in pixels.
        flip_x (bool): mirror left and right after resizing.
        flip_y (bool): mirror top and bottom after resizing.
    """

    crop: tuple[int, int, int, int]
    size: tuple[int, int]
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def resize_to(cls, height: int, width: int, size: tuple[int, int]) -> ClipGeometry:
        """Return the geometry that only resizes a ``height`` x ``width`` source to ``size``."""
        return cls(crop=(0, 0, height, width), size=size)

    def apply_frames(self, frames: np.ndarray) -> np.ndarray:
        """Transform frames.

        Args:
            frames (ndarray[T, H, W, 3]): uint8.

        Returns:
            ndarray[T, H', W', 3]: uint8, C-contiguous; a copy unless nothing changes.
        """
        top, left, height, width = self.crop
        frames = frames[:, top : top + height, left : left + width]
        if self.size != (height, width):
            resized = np.empty((len(frames), *self.size, frames.shape[3]), dtype=np.uint8)
            for t, frame in enumerate(frames):
                resized[t] = resize_frame(frame, self.size)
            frames = resized
        return np.ascontiguousarray(self._flip(frames, axis_y=1))

    def apply_masks(self, masks: np.ndarray) -> np.ndarray:
        """Transform masks; parts outside the crop are lost.

        Args:
            masks (ndarray[N, H, W]): bool.

        Returns:
            ndarray[N, H', W']: bool, possibly a view of ``masks``.
        """
        top, left, height, width = self.crop
        masks = masks[:, top : top + height, left : left + width]
        if self.size != (height, width):
            masks = masks[:, _nearest(height, self.size[0])]
            masks = np.take(masks, _nearest(width, self.size[1]), axis=2)
        return self._flip(masks, axis_y=1)

    def _flip(self, array: np.ndarray, axis_y: int) -> np.ndarray:
        if self.flip_y:
            array = np.flip(array, axis_y)
        if self.flip_x:
            array = np.flip(array, axis_y + 1)
        return array


class GeometrySampler:
    """Draws the geometry of a training sample from Detectron2's ``INPUT`` keys."""

    def __init__(
        self,
        *,
        short_edges: Sequence[int],
        longest: int,
        sampling: str = "choice",
        crop_type: str | None = None,
        crop_size: Sequence[float] = (1.0, 1.0),
        flip: str = "horizontal",
    ) -> None:
        """Store and check the settings.

        Args:
            short_edges: candidate shorter edges in pixels ("choice"), or their two limits
                ("range"); empty or 0 keeps the size.
            longest: upper limit of the longer edge in pixels, 0 for none.
            sampling: "choice" or "range"; a suffix "_by_clip" is accepted, since all frames share
                the size anyway.
            crop_type: None or one of Detectron2's crop types: "relative" (fraction of the source
                size), "relative_range" (fractions uniform between the given ones and 1), "absolute"
                (pixels), "absolute_range" (pixels uniform between the two given numbers, for height
                and width alike).
            crop_size: two numbers, height and width (or lower and upper limit for
                "absolute_range").
            flip: "none", "horizontal" or "vertical", with probability 1/2.

        Raises:
            ValueError: if a setting is not one of those above.
        """
        self.short_edges = [int(edge) for edge in short_edges] or [0]
        self.longest = int(longest)
        self.sampling = sampling.removesuffix("_by_clip")
        self.crop_type = crop_type
        self.crop_size = (float(crop_size[0]), float(crop_size[1]))
        self.flip = flip
        if self.sampling not in ("choice", "range"):
            raise ValueError(
                f"GeometrySampler: expected sampling 'choice' or 'range', got {sampling!r}"
            )
        if self.sampling == "range" and len(self.short_edges) != 2:
            raise ValueError(
                f"GeometrySampler: expected two short edges with 'range', got {short_edges}"
            )
        if crop_type is not None and crop_type not in _CROP_TYPES:
            raise ValueError(
                f"GeometrySampler: expected a crop type of {_CROP_TYPES}, got {crop_type!r}"
            )
        if flip not in _FLIPS:
            raise ValueError(f"GeometrySampler: expected a flip of {_FLIPS}, got {flip!r}")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> GeometrySampler:
        """Build the training sampler from the size, ``CROP`` and ``RANDOM_FLIP`` keys."""
        node = cfg.INPUT
        short = node.MIN_SIZE_TRAIN
        return cls(
            short_edges=[short] if isinstance(short, int) else short,
            longest=node.MAX_SIZE_TRAIN,
            sampling=node.MIN_SIZE_TRAIN_SAMPLING,
            crop_type=node.CROP.TYPE if node.CROP.ENABLED else None,
            crop_size=node.CROP.SIZE,
            flip=node.RANDOM_FLIP,
        )

    def __call__(self, rng: np.random.Generator, height: int, width: int) -> ClipGeometry:
        """Draw a geometry for a ``height`` x ``width`` source (pixels)."""
        crop_h, crop_w = self._crop_extent(rng, height, width)
        top = int(rng.integers(height - crop_h + 1))
        left = int(rng.integers(width - crop_w + 1))
        if self.sampling == "choice":
            short = self.short_edges[int(rng.integers(len(self.short_edges)))]
        else:
            short = int(rng.integers(self.short_edges[0], self.short_edges[1] + 1))
        mirrored = bool(rng.random() < 0.5)
        return ClipGeometry(
            crop=(top, left, crop_h, crop_w),
            size=shortest_edge_size(crop_h, crop_w, short, self.longest),
            flip_x=mirrored and self.flip == "horizontal",
            flip_y=mirrored and self.flip == "vertical",
        )

    def _crop_extent(self, rng: np.random.Generator, height: int, width: int) -> tuple[int, int]:
        if self.crop_type is None:
            return height, width
        first, second = self.crop_size
        if self.crop_type == "absolute_range":
            low = (min(height, int(first)), min(width, int(first)))
            high = (min(height, int(second)), min(width, int(second)))
            return int(rng.integers(low[0], high[0] + 1)), int(rng.integers(low[1], high[1] + 1))
        if self.crop_type == "absolute":
            return min(height, int(first)), min(width, int(second))
        if self.crop_type == "relative_range":
            first = rng.uniform(first, 1.0)
            second = rng.uniform(second, 1.0)
        return (
            min(height, max(1, int(height * first + 0.5))),
            min(width, max(1, int(width * second + 0.5))),
        )


@lru_cache(maxsize=64)
def _nearest(source: int, target: int) -> np.ndarray:
    """Return, for each of ``target`` output pixels, the source index whose centre is nearest."""
    index = ((np.arange(target) + 0.5) * (source / target)).astype(np.int64)
    return np.minimum(index, source - 1)
