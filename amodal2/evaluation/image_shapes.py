"""What is compared in an image: amodal, visible, invisible and occluder masks, and tight boxes.

invisible = amodal and not visible, formed for ground truth and predictions separately; the occluder
is the union of what lies over an object, as ground truth and predictions give it. Objects without a
single pixel of the compared kind are left out of the ground truth; a prediction without any is an
ordinary false positive, except that it is left out of the invisible and occluder rows, where it
says that nothing is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from amodal2.evaluation.image_predictions import BOX_KEYS, KINDS, Record
from amodal2.structures.image_json import OCCLUDER_SEGM
from amodal2.structures.rle import RLE, rle_areas, rle_box
from amodal2.structures.rle_crop import Crop, decode_crops, encode_crop


@dataclass(frozen=True)
class Region:
    """One kind of shape.

    Args:
        kind: "amodal", "visible", "invisible" or "occluder".
        boxes: tight boxes instead of masks.
    """

    kind: str
    boxes: bool = False

    @property
    def name(self) -> str:
        """Return the name of the region's row in a report."""
        return f"{self.kind}_bbox" if self.boxes else self.kind

    @property
    def mask_keys(self) -> list[str]:
        """Return the keys that a record needs."""
        if self.kind == "invisible":
            return list(KINDS.values())
        return [OCCLUDER_SEGM if self.kind == "occluder" else KINDS[self.kind]]

    @property
    def may_be_empty(self) -> bool:
        """Tell whether a prediction without such pixels says that there are none."""
        return self.kind in ("invisible", "occluder")


@dataclass
class Shapes:
    """The shapes of N records.

    Args:
        shapes: per record an RLE, or a box (x, y, w, h); None where there is nothing.
        areas (ndarray[N]): float64, pixels; those that decide about the size.
    """

    shapes: list[Any]
    areas: np.ndarray

    def present(self) -> np.ndarray:
        """Tell which records have a shape (ndarray[N] of bool)."""
        return np.array([shape is not None for shape in self.shapes], dtype=bool)


def true_shapes(objects: Sequence[Record], region: Region) -> Shapes:
    """Return the shapes of the ground truth; areas are always those of the masks, as COCO does.

    Args:
        objects: checked objects with the region's masks.
        region: what to compare.
    """
    if region.may_be_empty:
        masks = _masks(objects, region)
        areas = _areas(masks)
        return Shapes(_boxes(masks) if region.boxes else masks, areas)
    areas = np.array([record[f"{region.kind}_area"] for record in objects], dtype=np.float64)
    key = f"{region.kind}_bbox" if region.boxes else KINDS[region.kind]
    return Shapes([record[key] for record in objects], areas)


def predicted_shapes(records: Sequence[Record], region: Region) -> Shapes:
    """Return the shapes of predictions, with measured areas.

    Args:
        records: checked predictions with the region's masks, or with its boxes for boxes. Boxes
            that the records do not have are measured from their masks.
        region: what to compare.
    """
    box_key = BOX_KEYS.get(region.kind)
    if region.boxes and box_key and all(box_key in record for record in records):
        boxes = [record[box_key] for record in records]
        return Shapes(boxes, _box_areas(boxes))
    masks = _masks(records, region)
    if region.boxes:
        boxes = _boxes(masks)
        return Shapes(boxes, _box_areas(boxes))
    return Shapes(masks, _areas(masks))


def _masks(records: Sequence[Record], region: Region) -> list[RLE | None]:
    if region.kind == "invisible":
        return invisible_masks(records)
    (key,) = region.mask_keys
    return [record.get(key) for record in records]


def invisible_masks(records: Sequence[Record]) -> list[RLE | None]:
    """Return amodal and not visible of each record, None where nothing is left.

    Args:
        records: checked objects or predictions with both kinds of masks, of any sizes.
    """
    amodal_key, visible_key = KINDS["amodal"], KINDS["visible"]
    chosen = [i for i, record in enumerate(records) if record[amodal_key]]
    hidden: list[RLE | None] = [None] * len(records)
    amodal = decode_crops([records[i][amodal_key] for i in chosen])
    covered = [i for i in chosen if records[i][visible_key]]
    crops = decode_crops([records[i][visible_key] for i in covered])
    visible = dict(zip(covered, crops, strict=True))
    for i, crop in zip(chosen, amodal, strict=True):
        size = records[i][amodal_key]["size"]
        rest = crop.mask & ~_cut(visible[i], crop) if i in visible else crop.mask
        counts = encode_crop(Crop(rest, crop.x, crop.y), (size[0], size[1]))
        hidden[i] = None if counts is None else {"size": size, "counts": counts}
    return hidden


def shape_iou(predicted: Sequence[Any], truth: Sequence[Any], crowd: np.ndarray) -> np.ndarray:
    """Compute the IoU of every pair of one image; intersection / predicted area for crowds.

    Args:
        predicted: D masks or D boxes; None has IoU 0 with everything.
        truth: G masks or G boxes, all present.
        crowd (ndarray[G]): bool.

    Returns:
        ndarray[D, G]: float64 in [0, 1].
    """
    iou = np.zeros((len(predicted), len(truth)))
    rows = [i for i, shape in enumerate(predicted) if shape is not None]
    if not rows or not len(truth):
        return iou
    shapes: Any = [predicted[i] for i in rows]
    others: Any = list(truth)
    if not isinstance(others[0], dict):
        shapes, others = np.array(shapes, np.float64), np.array(others, np.float64)
    iou[rows] = coco_mask.iou(shapes, others, crowd.astype(np.uint8).tolist())
    return iou


def _cut(inner: Crop, window: Crop) -> np.ndarray:
    """Return the part of a crop that lies in another crop's box, as an array of that box's size."""
    cut = np.zeros(window.mask.shape, dtype=bool)
    x0, y0 = max(inner.x, window.x), max(inner.y, window.y)
    x1 = min(inner.x + inner.mask.shape[1], window.x + window.mask.shape[1])
    y1 = min(inner.y + inner.mask.shape[0], window.y + window.mask.shape[0])
    if x0 < x1 and y0 < y1:
        source = inner.mask[y0 - inner.y : y1 - inner.y, x0 - inner.x : x1 - inner.x]
        cut[y0 - window.y : y1 - window.y, x0 - window.x : x1 - window.x] = source
    return cut


def _areas(masks: Sequence[RLE | None]) -> np.ndarray:
    areas = np.zeros(len(masks))
    areas[[mask is not None for mask in masks]] = rle_areas([mask for mask in masks if mask])
    return areas


def _boxes(masks: Sequence[RLE | None]) -> list[tuple[int, int, int, int] | None]:
    return [None if mask is None else rle_box(mask) for mask in masks]


def _box_areas(boxes: Sequence[Any]) -> np.ndarray:
    return np.array([box[2] * box[3] if box else 0 for box in boxes], dtype=np.float64)
