"""Masks of a sample: decoding straight into the transformed frame, first visibility, boxes.

Shapes: T frames, N tracks, H W the transformed frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from amodal2.data.transforms.geometry import ClipGeometry

_CHUNK_BYTES = 1 << 26  # source masks decoded at once


def decode_masks(rles: Sequence[dict[str, Any] | None], geometry: ClipGeometry) -> np.ndarray:
    """Decode run-length masks and move them through a geometry.

    Source-size masks exist only for one chunk (64 MiB) at a time.

    Args:
        rles: COCO run-length masks of one size; None is an empty mask.
        geometry: crop, resize and flip.

    Returns:
        ndarray[N, H, W]: bool, C-contiguous.
    """
    decoded = np.zeros((len(rles), *geometry.size), dtype=bool)
    present = [i for i, rle in enumerate(rles) if rle is not None]
    if not present:
        return decoded
    height, width = rles[present[0]]["size"]  # type: ignore[index]
    step = max(1, _CHUNK_BYTES // (height * width))
    rows = np.empty((height, width), dtype=np.uint8)
    for start in range(0, len(present), step):
        chunk = present[start : start + step]
        columns = coco_mask.decode([rles[i] for i in chunk]).transpose(
            2, 1, 0
        )  # [n, W, H], contiguous
        for i, column_major in zip(chunk, columns, strict=True):
            cv2.transpose(column_major, dst=rows)
            decoded[i] = geometry.apply_masks(rows.view(np.bool_)[None])[0]
    return decoded


def first_visible_frames(visible: np.ndarray, min_pixels: int) -> np.ndarray:
    """Return the first frame in which each track has at least ``min_pixels`` visible pixels.

    Args:
        visible (ndarray[T, N, H, W]): bool masks.
        min_pixels: at least 1.

    Returns:
        ndarray[N]: int64 frame index, T for a track that never has.
    """
    num_frames, num_tracks, height, width = visible.shape
    areas = np.count_nonzero(visible.reshape(num_frames, num_tracks, height * width), axis=2)
    seen = areas >= max(1, min_pixels)
    return np.where(seen.any(axis=0), seen.argmax(axis=0), num_frames)


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Return the tight boxes of masks.

    Args:
        masks (ndarray[..., H, W]): bool.

    Returns:
        ndarray[..., 4]: float32 (x0, y0, x1, y1) in pixels, x1 and y1 exclusive; zeros for an empty
        mask.
    """
    height, width = masks.shape[-2:]
    lead = masks.shape[:-2]
    if masks.size == 0:
        return np.zeros((*lead, 4), dtype=np.float32)
    values = masks.view(np.uint8)
    rows = values.max(axis=-1)
    columns = values.max(axis=-2)
    boxes = np.stack(
        [
            columns.argmax(-1),
            rows.argmax(-1),
            width - columns[..., ::-1].argmax(-1),
            height - rows[..., ::-1].argmax(-1),
        ],
        axis=-1,
    ).astype(np.float32)
    boxes[~rows.any(axis=-1)] = 0.0
    return boxes
