"""Precision and recall of images from hotcoco, a COCOeval in Rust whose values are identical.

Like pycocotools, hotcoco overwrites ``ignore`` flags of the ground truth. An ignored object is
therefore given an area outside every range: COCO's rules treat the two alike, and whether a
prediction counts is decided by the prediction's own area. Areas can be replaced between two calls,
so that one engine serves all occlusion bins.

Dimensions: D predictions, G objects, A area ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval, Params

from amodal2.evaluation.average_precision import IOU_THRESHOLDS, RECALL_THRESHOLDS, Curves

NO_AREA = 2e10
"""Area in pixels that lies outside every range."""

Entry = dict[str, Any]


class CocoEngine:
    """Objects and predictions in the engine's memory, compared on each call of :meth:`curves`."""

    def __init__(
        self,
        images: Sequence[Entry],
        category_ids: Sequence[int],
        truth: Sequence[Entry],
        true_shapes: Sequence[Any],
        predicted: Sequence[Entry],
        predicted_shapes: Sequence[Any],
        *,
        boxes: bool,
        class_agnostic: bool,
        crowd: bool = True,
    ) -> None:
        """Hand the data over.

        Args:
            images: entries with ``id, height, width``.
            category_ids: in the order of the results.
            truth: G checked objects with ``image_id, category_id, iscrowd``.
            true_shapes: G RLEs or boxes (x, y, w, h).
            predicted: D checked predictions with ``image_id, category_id, score``.
            predicted_shapes: D RLEs or boxes; None takes nothing.
            boxes: the shapes are boxes.
            class_agnostic: all categories count as one; equal scores rank by category, then by
                their place in the file, as in pycocotools.
            crowd: objects with ``iscrowd`` are crowds.
        """
        ordered = sorted(images, key=lambda image: image["id"])
        self._sizes = [(image["height"], image["width"]) for image in ordered]
        self._images = {image["id"]: i for i, image in enumerate(ordered)}
        self._categories = {number: k for k, number in enumerate(category_ids)}
        self._params = Params("bbox" if boxes else "segm")
        self._params.img_ids = list(range(len(ordered)))
        self._params.cat_ids = [0] if class_agnostic else list(range(len(category_ids)))
        self._params.iou_thrs = IOU_THRESHOLDS.tolist()
        self._params.rec_thrs = RECALL_THRESHOLDS.tolist()
        self._agnostic = class_agnostic
        self._truth = self._load_truth(truth, true_shapes, crowd)
        self._predicted = self._load_predictions(predicted, predicted_shapes)

    def curves(
        self,
        truth_areas: np.ndarray,
        ignore: np.ndarray,
        predicted_areas: np.ndarray,
        ranges: Sequence[tuple[float, float]],
        limits: Sequence[int],
    ) -> Curves:
        """Match and join the matches of each category into curves.

        Args:
            truth_areas (ndarray[G]): what is compared with the ranges, e.g. areas in pixels.
            ignore (ndarray[G]): bool; objects that do not count.
            predicted_areas (ndarray[D]): the same for the predictions.
            ranges: A smallest and largest areas, both included.
            limits: numbers of predictions per image and category.

        Returns:
            Curves: precision and recall.
        """
        areas = np.where(ignore, NO_AREA, truth_areas).astype(np.float64)
        self._truth.coco.update_anns(ids=self._truth.ids, area=areas)
        self._predicted.coco.update_anns(ids=self._predicted.ids, area=predicted_areas)
        self._params.area_rng = [list(limits_of_area) for limits_of_area in ranges]
        self._params.area_rng_lbl = [str(a) for a in range(len(ranges))]
        self._params.max_dets = list(limits)
        run = COCOeval(self._truth.coco, self._predicted.coco, self._params.iou_type)
        run.params = self._params
        run.evaluate()
        run.accumulate()
        result: Any = run.eval
        return Curves(result["precision"], result["recall"])

    def _load_truth(self, entries: Sequence[Entry], shapes: Sequence[Any], crowd: bool) -> _Loaded:
        columns = self._columns(entries, shapes)
        crowds = [crowd and entries[i]["iscrowd"] for i in columns.order]
        sizes = enumerate(self._sizes)
        coco = COCO.from_arrays(
            [{"id": i, "height": height, "width": width} for i, (height, width) in sizes],
            [{"id": number, "name": str(number)} for number in self._params.cat_ids],
            columns.images,
            columns.categories,
            columns.boxes,
            area=np.zeros(len(entries)),
            iscrowd=np.array(crowds, dtype=bool),
            segmentation=columns.masks,
        )
        return _Loaded(coco, columns.ids())

    def _load_predictions(self, entries: Sequence[Entry], shapes: Sequence[Any]) -> _Loaded:
        columns = self._columns(entries, shapes)
        scores = np.array([entries[i]["score"] for i in columns.order], dtype=np.float64)
        rows = (columns.images, *columns.boxes.T, scores, columns.categories)
        table = np.stack(rows, axis=1, dtype=np.float64)
        coco = self._truth.coco.load_res(table, segmentation=columns.masks)
        return _Loaded(coco, columns.ids())

    def _columns(self, entries: Sequence[Entry], shapes: Sequence[Any]) -> _Columns:
        """Return the entries in the engine's form.

        Images and categories are numbered from 0, since ids of a file may be any integer.
        """
        order = list(range(len(entries)))
        categories = [0] * len(entries)
        if self._agnostic:
            order.sort(key=lambda i: entries[i]["category_id"])
        else:
            categories = [self._categories[entry["category_id"]] for entry in entries]
        images = [self._images[entries[i]["image_id"]] for i in order]
        shapes = [shapes[i] for i in order]
        boxes, masks = np.zeros((len(entries), 4)), None
        if self._params.iou_type == "bbox":
            nothing = (0, 0, 0, 0)
            given = [nothing if shape is None else shape for shape in shapes]
            boxes = np.array(given, dtype=np.float64).reshape(-1, 4)
        else:
            masks = [
                shape or self._empty_mask(image)
                for image, shape in zip(images, shapes, strict=True)
            ]
        return _Columns(
            order, np.array(images, np.int64), np.array(categories, np.int64), boxes, masks
        )

    def _empty_mask(self, image: int) -> Any:
        height, width = self._sizes[image]
        return {"size": [height, width], "counts": [height * width]}


@dataclass
class _Columns:
    """N entries in the engine's form, in the engine's order.

    Args:
        order: position of each among the entries given.
        images (ndarray[N]): from 0.
        categories (ndarray[N]): from 0.
        boxes (ndarray[N, 4]): zeros for masks.
        masks: RLEs, None for boxes.
    """

    order: list[int]
    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    masks: list[Any] | None

    def ids(self) -> np.ndarray:
        """Return the engine's id of each entry in the order given."""
        ids = np.zeros(len(self.order), dtype=np.int64)
        ids[self.order] = np.arange(1, len(self.order) + 1)
        return ids


@dataclass
class _Loaded:
    """Entries in the engine's memory, and the engine's id of each in the order given."""

    coco: COCO
    ids: np.ndarray
