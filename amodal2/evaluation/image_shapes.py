"""What is compared in an image: amodal, visible and invisible masks, and their tight boxes.

invisible = amodal and not visible, formed for ground truth and predictions separately. Objects
without a single pixel of the compared kind are left out of the ground truth; a prediction without
any is an ordinary false positive, except that it is left out of the invisible rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amodal2.evaluation.image_predictions import BOX_KEYS, KINDS, Record
from amodal2.structures.rle import RLE, rle_areas, rle_box
from amodal2.structures.rle_crop import Crop, decode_crops, encode_crop


@dataclass(frozen=True)
class Region:
    """One kind of shape.

    Args:
        kind: "amodal", "visible" or "invisible".
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
        return list(KINDS.values()) if self.kind == "invisible" else [KINDS[self.kind]]


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
    if region.kind == "invisible":
        masks = invisible_masks(objects)
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
    if region.kind == "invisible":
        masks = invisible_masks(records)
    else:
        masks = [record[KINDS[region.kind]] for record in records]
    if region.boxes:
        boxes = _boxes(masks)
        return Shapes(boxes, _box_areas(boxes))
    return Shapes(masks, _areas(masks))


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
