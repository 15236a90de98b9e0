"""Occluder masks: what lies over each object, built from the visible masks of its neighbours.

The rule of BCNet, AISFormer and AIStron, without their contour tracing: the occluder of object i is
the union of the visible masks of the objects j whose visible box overlaps the amodal box of i by
more than 0.05 IoU, cut to the amodal box of i, and empty if it has at most 20 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from amodal2.structures.image_json import OCCLUDER_SEGM, VISIBLE_SEGM
from amodal2.structures.rle import RLE, rle_area
from amodal2.structures.rle_crop import Crop, encode_crop

MODES = ("all_neighbours", "front_only", "precomputed")
_MIN_BOX_IOU = 0.05
_MIN_PIXELS = 20


def build_occluders(
    annotations: Sequence[dict[str, Any]],
    size: tuple[int, int],
    mode: str,
    wanted: Sequence[int] | None = None,
) -> list[RLE | None]:
    """Return the occluder mask of each object of one image, before any transform.

    Args:
        annotations: N records of ``image_json`` with ``visible_segm``, ``visible_bbox`` and
            ``amodal_bbox``; for "front_only" with ``order`` = {"cluster": int, "rank": int}, nearer
            objects of a cluster having lower ranks.
        size: height and width of the image in pixels.
        mode: "all_neighbours" (the published rule, which uses no depth: objects behind count too),
            "front_only" (nearer objects only) or "precomputed" (``occluder_segm`` of the file).
        wanted: positions of the objects whose occluders are made; None makes those of all.

    Returns:
        list[RLE | None]: one mask per wanted object, None where nothing lies over it.

    Raises:
        ValueError: if the mode is unknown or a record lacks what it needs.
    """
    if mode not in MODES:
        raise ValueError(f"build_occluders: expected a mode of {MODES}, got {mode!r}")
    needed = {"front_only": "order", "precomputed": OCCLUDER_SEGM}.get(mode)
    for record in annotations:
        if needed is not None and needed not in record:
            raise ValueError(
                f"build_occluders: expected '{needed}' in every annotation for {mode!r}, got none "
                f"in annotation {record.get('id')}; set INPUT.AMODAL.OCCLUDER to 'all_neighbours'"
            )
    chosen = range(len(annotations)) if wanted is None else wanted
    if mode == "precomputed":
        return [annotations[i][OCCLUDER_SEGM] for i in chosen]
    over = _overlapping(annotations)
    occluders: list[RLE | None] = []
    for i in chosen:
        record = annotations[i]
        masks = [
            other[VISIBLE_SEGM]
            for j, other in enumerate(annotations)
            if over[i, j] and (mode == "all_neighbours" or _in_front(other, record))
        ]
        union = _cut_union(masks, record["amodal_bbox"], size) if masks else None
        occluders.append(union if union and rle_area(union) > _MIN_PIXELS else None)
    return occluders


def _overlapping(annotations: Sequence[dict[str, Any]]) -> np.ndarray:
    """Tell whether the visible box of j overlaps the amodal box of i (bool [N (i), N (j)])."""
    count = len(annotations)
    seen = [j for j in range(count) if annotations[j].get(VISIBLE_SEGM)]
    over = np.zeros((count, count), dtype=bool)
    if seen:
        amodal = np.array([record["amodal_bbox"] for record in annotations], np.float64)
        visible = np.array([annotations[j]["visible_bbox"] for j in seen], np.float64)
        over[:, seen] = coco_mask.iou(amodal, visible, [0] * len(seen)) > _MIN_BOX_IOU
    np.fill_diagonal(over, False)
    return over


def _in_front(other: dict[str, Any], record: dict[str, Any]) -> bool:
    nearer, own = other["order"], record["order"]
    return bool(nearer["cluster"] == own["cluster"] and nearer["rank"] < own["rank"])


def _cut_union(masks: list[RLE], box: Sequence[float], size: tuple[int, int]) -> RLE | None:
    """Return the union of masks inside a box (x, y, w, h), whose edges are cut to whole pixels."""
    left, top = max(0, int(box[0])), max(0, int(box[1]))
    right, bottom = min(size[1], int(box[0] + box[2])), min(size[0], int(box[1] + box[3]))
    if right <= left or bottom <= top:
        return None
    window = Crop(np.ones((bottom - top, right - left), dtype=bool), left, top)
    cut = {"size": [*size], "counts": encode_crop(window, size)}
    merged = coco_mask.merge([coco_mask.merge(masks), cut], intersect=True)
    return {"size": [*size], "counts": merged["counts"].decode("ascii")}
