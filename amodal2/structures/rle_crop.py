"""Encode and decode masks by their box, which for small objects is much faster than by the frame.

A crop is a bool array [h, w] together with the frame position (x, y) of its top left pixel. Runs
are those of the COCO form: column by column through the frame, beginning with background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal2.ops import mask_rle
from amodal2.structures.rle import RLE, mask_tensor
from amodal2.structures.rle_runs import decode_runs


class Crop(NamedTuple):
    """A mask cut out of a frame.

    Attributes:
        mask (ndarray[h, w]): bool.
        x (int): frame column of its left edge.
        y (int): frame row of its upper edge.
    """

    mask: NDArray[np.bool_]
    x: int
    y: int


def encode_crop(crop: Crop, size: tuple[int, int]) -> str | None:
    """Encode a mask that is empty outside a box.

    Args:
        crop (Crop): the box; it must lie inside the frame.
        size (tuple[int, int]): height and width of the frame in pixels.

    Returns:
        str | None: compressed COCO counts of the whole frame; None if no pixel is set.

    Raises:
        ValueError: if the box does not lie inside the frame.
    """
    if not crop.mask.any():
        return None
    (rle,) = mask_rle(mask_tensor(crop.mask[None]), frame=size, origin=(crop.y, crop.x))
    return rle["counts"]


def decode_crops(rles: Sequence[RLE]) -> list[Crop]:
    """Decode valid masks to their boxes.

    Args:
        rles (Sequence[RLE]): compressed, all of the same size; empty masks are legal.

    Returns:
        list[Crop]: one per mask. The box is tight, but of full height where the mask fills a
        column; its shape is [0, 0] where the mask is empty.
    """
    runs, offsets = decode_runs([rle["counts"] for rle in rles])
    return [
        _decode(runs[start:stop], rle["size"][0])
        for rle, start, stop in zip(rles, offsets[:-1], offsets[1:], strict=True)
    ]


def _decode(runs: NDArray[np.int64], height: int) -> Crop:
    bounds = np.cumsum(runs)
    starts, ends = bounds[:-1:2], bounds[1::2]
    used = ends > starts
    if not used.all():
        starts, ends = starts[used], ends[used]
    if not starts.size:
        return Crop(np.zeros((0, 0), bool), 0, 0)
    first_column, first_row = np.divmod(starts, height)
    last_column, last_row = np.divmod(ends - 1, height)
    left, right = int(first_column[0]), int(last_column[-1]) + 1
    if (first_column == last_column).all():
        top, bottom = int(first_row.min()), int(last_row.max()) + 1
    else:  # a run that goes on in the next column touches the upper and lower edge
        top, bottom = 0, height
    rows = bottom - top
    first = (first_column - left) * rows + first_row - top
    last = (last_column - left) * rows + last_row - top
    edges = np.zeros((right - left) * rows + 1, np.int8)
    edges[first] = 1
    edges[last + 1] -= 1
    columns = np.cumsum(edges[:-1], dtype=np.int8).view(bool).reshape(right - left, rows)
    return Crop(columns.T, left, top)
