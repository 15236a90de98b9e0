"""Run-length encoded masks in the COCO form: the op ``mask_rle`` and pycocotools for numpy.

An RLE is ``{"size": [H, W], "counts": str}``: the mask is read column by column and ``counts``
holds the lengths of alternating background and foreground runs, starting with background, in the
compressed text form. Readers also accept the uncompressed form (``counts`` a list of int) and
polygons and turn them into the compressed one once (:func:`to_rle`). Dimensions: N masks, H W
image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from amodal2.ops import mask_rle, mask_rle_decode
from amodal2.structures.rle_runs import describe_invalid, find_invalid_counts, measure_counts

# The C code keeps every pixel of an outline, five times as fine, and does not check its numbers.
_LONGEST_OUTLINE = 1 << 22

RLE = dict[str, Any]
"""``{"size": [H, W], "counts": str}``."""


def encode_mask(mask: np.ndarray) -> RLE:
    """Encode one mask.

    Args:
        mask (ndarray[H, W]): bool or 0/1.

    Returns:
        RLE: compressed, with ``counts`` as text, so that ``json`` can write it.

    Raises:
        ValueError: if ``mask`` is not two-dimensional.
    """
    if mask.ndim != 2:
        raise ValueError(f"encode_mask: expected mask [H, W], got shape {tuple(mask.shape)}")
    return mask_rle(mask_tensor(mask[None]))[0]


def encode_masks(masks: np.ndarray) -> list[RLE]:
    """Encode a stack of masks.

    Args:
        masks (ndarray[N, H, W]): bool or 0/1; N = 0 is legal.

    Returns:
        list[RLE]: one per mask.

    Raises:
        ValueError: if ``masks`` is not three-dimensional.
    """
    if masks.ndim != 3:
        raise ValueError(f"encode_masks: expected masks [N, H, W], got shape {tuple(masks.shape)}")
    return mask_rle(mask_tensor(masks))


def decode_rle(rle: RLE) -> np.ndarray:
    """Decode one RLE.

    Args:
        rle (RLE): compressed or uncompressed.

    Returns:
        ndarray[H, W]: bool, row by row in memory.

    Raises:
        ValueError: if the runs do not fill H * W pixels.
    """
    return mask_rle_decode([_compressed(rle)])[0].numpy()


def mask_tensor(masks: np.ndarray) -> torch.Tensor:
    """Hand masks to PyTorch, without a copy where that is possible.

    Args:
        masks (ndarray[N, H, W]): bool or 0/1.

    Returns:
        Tensor[N, H, W]: bool or uint8.
    """
    if masks.dtype not in (np.bool_, np.uint8):
        masks = masks.astype(np.uint8)
    if not masks.flags.writeable or min(masks.strides) < 0:
        masks = masks.copy()
    return torch.from_numpy(masks)


def rle_area(rle: RLE) -> int:
    """Return the number of foreground pixels.

    Args:
        rle (RLE): a valid RLE.

    Raises:
        ValueError: if its counts are cut inside a number.
    """
    return int(coco_mask.area(_compressed(rle)))


def rle_areas(rles: Sequence[RLE]) -> np.ndarray:
    """Return the numbers of foreground pixels of several masks.

    Args:
        rles (Sequence[RLE]): N valid compressed RLEs.

    Returns:
        ndarray[N]: int64.

    Raises:
        ValueError: if an RLE is broken.
    """
    pixels = [rle["size"][0] * rle["size"][1] for rle in rles]
    areas = measure_counts([rle["counts"] for rle in rles], pixels)
    invalid = np.flatnonzero(areas < 0).tolist()
    if invalid:
        problem = describe_invalid(rles[invalid[0]]["counts"], pixels[invalid[0]])
        raise ValueError(f"rle_areas: {problem} (mask {invalid[0]})")
    return areas


def rle_box(rle: RLE) -> tuple[int, int, int, int]:
    """Return the tight box (x, y, w, h) in pixels, with w = xmax - xmin + 1; zeros if empty.

    Args:
        rle (RLE): a valid RLE.

    Raises:
        ValueError: if its counts are cut inside a number.
    """
    x, y, width, height = (int(value) for value in coco_mask.toBbox(_compressed(rle)))
    return x, y, width, height


def validate_rle(rle: Any, size: tuple[int, int]) -> None:
    """Check an RLE of unknown origin without handing it to the C decoder, which trusts its input.

    Args:
        rle (object): what should be an RLE.
        size (tuple): expected (H, W).

    Raises:
        ValueError: if it is no RLE, has another size, or its runs do not fill H * W pixels.
    """
    problem = find_invalid_rles([rle], [size]).get(0)
    if problem is not None:
        raise ValueError(f"validate_rle: {problem}")


def find_invalid_rles(rles: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> dict[int, str]:
    """Check many RLEs of unknown origin at once.

    Args:
        rles (Sequence[object]): what should be RLEs.
        sizes (Sequence[tuple]): expected (H, W) of each.

    Returns:
        dict[int, str]: position of each invalid entry -> "expected ..., got ...".
    """
    problems: dict[int, str] = {}
    positions, counts, pixels = [], [], []
    for position, (rle, size) in enumerate(zip(rles, sizes, strict=True)):
        problem = _structure_problem(rle, size)
        if problem is not None:
            problems[position] = problem
        elif isinstance(rle["counts"], list):
            problem = _list_problem(rle["counts"], size)
            if problem is not None:
                problems[position] = problem
        else:
            positions.append(position)
            counts.append(rle["counts"])
            pixels.append(size[0] * size[1])
    for index, problem in find_invalid_counts(counts, pixels).items():
        problems[positions[index]] = problem
    return problems


def plain_counts(masks: Sequence[Any], sizes: list[list[int]]) -> list[str] | None:
    """Return the counts of masks that are all compressed RLEs of the right size; fast for many.

    Args:
        masks (Sequence[object]): what should be such RLEs.
        sizes (list[list]): expected [H, W] of each.

    Returns:
        list[str] | None: of each mask, unchecked; None if any mask has another form or size.
    """
    try:
        counts = [mask["counts"] for mask in masks]
        found = [mask["size"] for mask in masks]
    except (KeyError, TypeError):
        return None
    if found != sizes or not set(map(type, counts)) <= {str}:
        return None
    # Equal numbers may be of another type, as 1.0 or True.
    return counts if set(map(type, chain.from_iterable(found))) <= {int} else None


def polygons_to_rle(polygons: Sequence[Sequence[float]], height: int, width: int) -> RLE:
    """Rasterise the union of polygons by the COCO rule.

    Args:
        polygons (Sequence): flat lists x0, y0, x1, y1, ... in pixels, at least three points each.
        height (int): H.
        width (int): W.

    Returns:
        RLE: compressed.

    Raises:
        ValueError: if there is no polygon, or one has fewer than three points or a broken number
            list.
    """
    if not polygons:
        raise ValueError("polygons_to_rle: expected at least one polygon, got none")
    for polygon in polygons:
        values = _coordinates(polygon)
        if values is None or len(values) < 6 or len(values) % 2:
            raise ValueError(
                "polygons_to_rle: expected polygons as flat lists of an even number of at least 6 "
                f"finite coordinates, got {polygon!r:.80}"
            )
        far = np.abs(values).max()
        # No outline is longer than that, which is quick to see.
        if 2 * far * len(values) > _LONGEST_OUTLINE < max(far, _outline(values)):
            raise ValueError(
                "polygons_to_rle: expected polygons with coordinates and an outline below "
                f"{_LONGEST_OUTLINE} pixels, got {polygon!r:.80}"
            )
    parts = coco_mask.frPyObjects([list(polygon) for polygon in polygons], height, width)
    return _as_text(coco_mask.merge(parts))


def _outline(values: np.ndarray) -> float:
    """Return the length of an outline, the sum of the steps in x and in y."""
    points = values.reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).sum())


def _coordinates(polygon: Any) -> np.ndarray | None:
    """Return the numbers of a polygon, None if it is anything else."""
    if not isinstance(polygon, Sequence) or isinstance(polygon, str):
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in polygon):
        return None
    try:
        values = np.asarray(polygon, dtype=np.float64)
    except OverflowError:
        return None
    return values if np.isfinite(values).all() else None


def to_rle(segmentation: Any, height: int, width: int) -> RLE:
    """Bring a compressed RLE, an uncompressed RLE or polygons into compressed form.

    Compressed RLEs are passed on as they are: their runs are not checked here.

    Args:
        segmentation (dict | list): one of the three forms.
        height (int): H of the frame.
        width (int): W of the frame.

    Returns:
        RLE: compressed, ``counts`` as text.

    Raises:
        ValueError: if it is none of the three, or an uncompressed form is broken.
    """
    if isinstance(segmentation, list):
        return polygons_to_rle(segmentation, height, width)
    problem = _structure_problem(segmentation, (height, width))
    if problem is None and isinstance(segmentation["counts"], list):
        problem = _list_problem(segmentation["counts"], (height, width))
    if problem is not None:
        raise ValueError(f"to_rle: {problem}")
    return segmentation if isinstance(segmentation["counts"], str) else _compressed(segmentation)


def _compressed(rle: RLE) -> RLE:
    counts = rle["counts"]
    if isinstance(counts, list):
        height, width = rle["size"]
        return _as_text(coco_mask.frPyObjects(rle, height, width))
    if isinstance(counts, str) and (ord(counts[-1:] or "0") - 48) & 32:
        # The C decoder would read on behind the string.
        raise ValueError(
            f"RLE: expected complete counts, got a string cut inside a number: {counts[-20:]!r}"
        )
    return rle


def _as_text(rle: RLE) -> RLE:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _structure_problem(rle: Any, size: tuple[int, int]) -> str | None:
    if not isinstance(rle, dict) or "counts" not in rle or "size" not in rle:
        return f"expected an RLE with 'size' and 'counts', got {rle!r:.80}"
    sides = rle["size"]
    if sides != [*size] or not type(sides[0]) is type(sides[1]) is int:
        return f"expected RLE size {[*size]} (height, width), got {sides!r:.80}"
    if isinstance(rle["counts"], bytes):
        return "expected RLE counts as text, got bytes; decode them as ASCII"
    if not isinstance(rle["counts"], str | list):
        return f"expected RLE counts as text or list of int, got {type(rle['counts']).__name__}"
    return None


def _list_problem(counts: list[Any], size: tuple[int, int]) -> str | None:
    if not all(type(run) is int and run >= 0 for run in counts):
        return "expected RLE counts as non-negative integers, got other values"
    if sum(counts) != size[0] * size[1]:
        return f"expected RLE runs that sum to {size[0] * size[1]} pixels, got {sum(counts)}"
    return None
