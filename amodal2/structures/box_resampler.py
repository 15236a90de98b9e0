"""Bring mask logits to the output size, only where they can become positive.

Bilinear resampling to the padded input, cutting off the padding and resampling to the output are
linear and separable, so together they are one matrix per axis, ``Y @ logits @ X``. A value of the
result is a weighted mean of logits; it can be positive only in the reach of positive logits.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from amodal2.structures.clip import ClipOutput

_LIMIT = 1e4  # bounds infinite logits, which would turn into NaN beside a zero weight


class BoxResampler:
    """Resamples boxes of the logits of one clip geometry.

    Agrees with ``resample_logits`` up to rounding.
    """

    def __init__(
        self,
        logits_size: tuple[int, int],
        padded_size: tuple[int, int],
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> None:
        """Compute the two matrices.

        Args:
            logits_size (tuple[int, int]): (h, w) of the logits.
            padded_size (tuple[int, int]): height and width in pixels that the logits cover.
            image_size (tuple[int, int]): valid part of it, top left.
            output_size (tuple[int, int]): (H, W) of the masks in pixels.
        """
        sizes = zip(logits_size, padded_size, image_size, output_size, strict=True)
        self._rows, self._columns = (_Axis(*size) for size in sizes)

    @classmethod
    def of_clip(cls, clip: ClipOutput, output_size: tuple[int, int]) -> BoxResampler:
        """Return the resampler for the logits of ``clip``."""
        height, width = clip.shape[-2:]
        return cls((height, width), clip.padded_size, clip.image_size, output_size)

    def resample(
        self, logits: NDArray[np.float32], box: tuple[int, int, int, int]
    ) -> tuple[NDArray[np.float32], int, int]:
        """Resample one mask's logits in the reach of a box.

        Args:
            logits (ndarray[h, w]): float32 logits.
            box (tuple[int, int, int, int]): first and last row, first and last column.

        Returns:
            tuple[ndarray[h', w'], int, int]: logits at output size, and the output column and row
            of their top left pixel. Outside, the output has no share of the box.
        """
        top, bottom, y_low, y_high = self._rows.reach(box[0], box[1])
        left, right, x_low, x_high = self._columns.reach(box[2], box[3])
        part = np.clip(logits[y_low:y_high, x_low:x_high], -_LIMIT, _LIMIT)
        part = self._rows.matrix[top:bottom, y_low:y_high] @ part
        return part @ self._columns.matrix[left:right, x_low:x_high].T, left, top


class _Axis:
    """Resampling along one axis: the matrix [output, input] and which input reaches what."""

    def __init__(self, logits: int, padded: int, image: int, output: int) -> None:
        weights = functional.interpolate(
            torch.eye(logits)[None], size=padded, mode="linear", align_corners=False
        )[..., :image]
        if image != output:
            weights = functional.interpolate(
                weights, size=output, mode="linear", align_corners=False
            )
        self.matrix: NDArray[np.float32] = np.ascontiguousarray(weights[0].T.numpy())
        used = self.matrix > 0
        self._first_input = used.argmax(axis=1)
        self._last_input = logits - 1 - used[:, ::-1].argmax(axis=1)
        reached = used.any(axis=0)
        # Logits in the padding reach nothing: their interval of outputs is empty.
        self._first_output = np.where(reached, used.argmax(axis=0), output)
        self._last_output = np.where(reached, output - 1 - used[::-1].argmax(axis=0), -1)

    def reach(self, first: int, last: int) -> tuple[int, int, int, int]:
        """Return the outputs that inputs [first, last] reach, and all inputs these outputs need."""
        start = int(self._first_output[first : last + 1].min())
        stop = int(self._last_output[first : last + 1].max()) + 1
        if start >= stop:
            return 0, 0, 0, 0
        return start, stop, int(self._first_input[start]), int(self._last_input[stop - 1]) + 1
