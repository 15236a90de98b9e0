"""Precision and recall of images from hotcoco, a COCOeval in Rust whose values are identical.

Like pycocotools, hotcoco overwrites ``ignore`` flags of the ground truth. An ignored object is
therefore given an area outside every range: COCO's rules treat the two alike, and whether a
prediction counts is decided by the prediction's own area. Areas can be replaced between two calls,
so that one engine serves all occlusion bins.

Dimensions: D predictions, G objects, A area ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        predicted: Sequence[Entry],
        *,
        boxes: bool,
        class_agnostic: bool,
    ) -> None:
        """Hand the data over.

        Args:
            images: entries with ``id, height, width``.
            category_ids: in the order of the results.
            truth: G checked objects with ``image_id, category_id, iscrowd, shape``; the shape is an
                RLE or a box (x, y, w, h).
            predicted: D checked predictions with ``image_id, category_id, score, shape``; a shape
                of None takes nothing.
            boxes: the shapes are boxes.
            class_agnostic: all categories count as one; equal scores rank by category, then by
                their place in the file, as in pycocotools.
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
        self._truth, self._truth_ids = self._load(truth)
        self._predicted, self._predicted_ids = self._load(predicted)

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
        self._truth.update_anns(ids=self._truth_ids, area=areas)
        self._predicted.update_anns(ids=self._predicted_ids, area=predicted_areas)
        self._params.area_rng = [list(limits_of_area) for limits_of_area in ranges]
        self._params.area_rng_lbl = [str(a) for a in range(len(ranges))]
        self._params.max_dets = list(limits)
        run = COCOeval(self._truth, self._predicted, self._params.iou_type)
        run.params = self._params
        run.evaluate()
        run.accumulate()
        result: Any = run.eval
        return Curves(result["precision"], result["recall"])

    def _load(self, entries: Sequence[Entry]) -> tuple[COCO, np.ndarray]:
        """Return the entries in the engine's form, and their ids there in the order given.

        Images and categories are numbered from 0, since ids of a file may be any integer.
        """
        key = "bbox" if self._params.iou_type == "bbox" else "segmentation"
        order = list(range(len(entries)))
        if self._agnostic:
            order.sort(key=lambda i: entries[i]["category_id"])
        annotations = []
        for number, i in enumerate(order, start=1):
            entry = entries[i]
            image, shape = self._images[entry["image_id"]], entry["shape"]
            annotation = {
                "id": number,
                "image_id": image,
                "category_id": 0 if self._agnostic else self._categories[entry["category_id"]],
                "iscrowd": entry.get("iscrowd", 0),
                "area": 0.0,
                key: self._nothing(image) if shape is None else shape,
            }
            if "score" in entry:
                annotation["score"] = entry["score"]
            annotations.append(annotation)
        content = {
            "images": [
                {"id": i, "height": height, "width": width}
                for i, (height, width) in enumerate(self._sizes)
            ],
            "categories": [{"id": number, "name": str(number)} for number in self._params.cat_ids],
            "annotations": annotations,
        }
        ids = np.zeros(len(entries), dtype=np.int64)
        ids[order] = np.arange(1, len(entries) + 1)
        return COCO(content), ids

    def _nothing(self, image: int) -> Any:
        if self._params.iou_type == "bbox":
            return [0, 0, 0, 0]
        height, width = self._sizes[image]
        return {"size": [height, width], "counts": [height * width]}
