"""From the masks of rendered frames to track annotations of the video schema."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

Rle = dict[str, Any]
Label = dict[str, Any]


class TrackLabels:
    """Collects the masks of one video's objects frame by frame, as run lengths."""

    def __init__(self, category_ids: list[int], height: int, width: int) -> None:
        """Start without frames.

        Args:
            category_ids (list[int]): category of each object.
            height (int): rows of the frames.
            width (int): columns of the frames.
        """
        self._category_ids = category_ids
        self._size = (height, width)
        self._visible: list[list[Rle | None]] = [[] for _ in category_ids]
        self._amodal: list[list[Rle | None]] = [[] for _ in category_ids]
        self._order: list[list[int]] = []

    def add(
        self, visible: npt.NDArray[np.bool_], amodal: npt.NDArray[np.bool_], order: list[int]
    ) -> None:
        """Take the labels of the next frame.

        Before an object's first visible pixel its amodal mask is left out.

        Args:
            visible (bool [N, H, W]): visible masks.
            amodal (bool [N, H, W]): amodal masks.
            order (list[int]): objects 0..N-1 from nearest to farthest.
        """
        seen_rles, whole_rles = _encode(visible), _encode(amodal)
        shown = []
        for n, (seen, whole) in enumerate(zip(seen_rles, whole_rles, strict=True)):
            started = seen is not None or any(rle is not None for rle in self._visible[n])
            self._visible[n].append(seen)
            self._amodal[n].append(whole if started else None)
            if started and whole is not None:
                shown.append(n)
        self._order.append([n for n in order if n in shown])

    def annotations(self) -> tuple[list[Label], list[list[int]]]:
        """Return the tracks of all objects that are ever visible.

        Returns:
            tuple: annotations (without ``video_id``) whose ids count from 1, and per frame these
            ids from nearest to farthest, of the objects that have an amodal mask in it.
        """
        kept = [n for n, rles in enumerate(self._visible) if any(rle is not None for rle in rles)]
        ids = {n: i + 1 for i, n in enumerate(kept)}
        labels = [self._annotation(n, ids[n]) for n in kept]
        return labels, [[ids[n] for n in order if n in ids] for order in self._order]

    def _annotation(self, n: int, track_id: int) -> Label:
        """Build the annotation of object ``n``."""
        visible, amodal = self._visible[n], self._amodal[n]
        areas, amodal_areas = _areas(visible), _areas(amodal)
        rates = [
            None if whole is None else round(1.0 - (seen or 0) / whole, 6)
            for seen, whole in zip(areas, amodal_areas, strict=True)
        ]
        height, width = self._size
        return {
            "id": track_id,
            "category_id": self._category_ids[n],
            "iscrowd": 0,
            "width": width,
            "height": height,
            "length": len(visible),
            "segmentations": visible,
            "amodal_segmentations": amodal,
            "bboxes": _boxes(visible),
            "amodal_bboxes": _boxes(amodal),
            "areas": areas,
            "amodal_areas": amodal_areas,
            "occlusion_rates": rates,
        }


def _encode(masks: npt.NDArray[np.bool_]) -> list[Rle | None]:
    """Encode masks (bool [N, H, W]); an empty one becomes None."""
    if len(masks) == 0:
        return []
    encoded = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    filled = [bool(mask.any()) for mask in masks]
    return [
        {"size": [int(s) for s in rle["size"]], "counts": rle["counts"].decode("ascii")}
        if some
        else None
        for rle, some in zip(encoded, filled, strict=True)
    ]


def _areas(rles: list[Rle | None]) -> list[int | None]:
    """Return the areas in pixels."""
    return [None if rle is None else int(coco_mask.area(rle)) for rle in rles]


def _boxes(rles: list[Rle | None]) -> list[list[int] | None]:
    """Return the tight boxes [x, y, w, h] in pixels, both borders counted."""
    return [None if rle is None else [int(c) for c in coco_mask.toBbox(rle)] for rle in rles]
