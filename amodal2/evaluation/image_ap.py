"""AP and AR of image predictions: amodal, visible and invisible masks and boxes.

Matching and averaging are those of ``average_precision``; a cell is one image and one category.
Objects that lie outside an occlusion bin are ignored: their matches vanish, while a prediction that
takes nothing stays a false positive in every bin (unless the rule says otherwise), so that AP in a
bin is lower than AP overall and recall is the fair number. ``image_protocols`` puts the rows
together.

Dimensions: D predictions, G objects, A area ranges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from amodal2.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    Cell,
    Curves,
    accumulate,
    match_cell,
    mean_defined,
)
from amodal2.evaluation.image_occlusion import OcclusionRule
from amodal2.evaluation.image_predictions import Record
from amodal2.evaluation.image_shapes import Region, predicted_shapes, shape_iou, true_shapes
from amodal2.evaluation.report import APScores
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM, ImageDataset
from amodal2.structures.rle import rle_area

IMAGE_AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Mask area in pixels, both ends included (COCO)."""
ALL_AREAS = {"all": IMAGE_AREA_RANGES["all"]}


@dataclass(frozen=True)
class Rules:
    """How predictions are compared with objects.

    Args:
        class_agnostic: all categories count as one.
        crowd: objects marked ``iscrowd`` are ignored and may be taken several times; otherwise the
            mark has no effect.
        limits: predictions per cell that AR is reported for; the last one holds for AP.
        area_ranges: name -> smallest and largest area in pixels; the first one is "all".
        min_invisible_px: objects with fewer hidden pixels are ignored in the invisible rows.
    """

    class_agnostic: bool = False
    crowd: bool = True
    limits: tuple[int, ...] = MAX_DETECTIONS
    area_ranges: Mapping[str, tuple[float, float]] = field(default_factory=IMAGE_AREA_RANGES.copy)
    min_invisible_px: int = 0


class ImageTask:
    """Predictions and objects of one region, sorted into cells of one image and category.

    The IoUs are computed once, so that scoring again with other ignored objects costs little.

    Attributes:
        objects: the true objects that have the region's shape.
        num_empty: how many have not.
    """

    def __init__(
        self, dataset: ImageDataset, records: Sequence[Record], region: Region, rules: Rules
    ) -> None:
        """Measure shapes and IoUs.

        Args:
            dataset: the ground truth; it has the region's masks.
            records: checked predictions; they have the region's masks, or its boxes.
            region: what is compared.
            rules: how.
        """
        self.rules = rules
        self.categories = {entry["id"]: entry["name"] for entry in dataset.categories}
        truth = true_shapes(dataset.annotations, region)
        kept = np.flatnonzero(truth.present()).tolist()
        self.objects = [dataset.annotations[i] for i in kept]
        self.num_empty = len(dataset.annotations) - len(kept)
        self.rates = np.array([o.get("occlusion_rate", np.nan) for o in self.objects], np.float64)
        shapes, areas = [truth.shapes[i] for i in kept], truth.areas[kept]
        few = areas < rules.min_invisible_px if region.kind == "invisible" else areas < 0
        crowd = np.array([record["iscrowd"] and rules.crowd for record in self.objects], dtype=bool)
        predicted = predicted_shapes(records, region)
        if region.kind == "invisible":
            chosen = np.flatnonzero(predicted.present()).tolist()
            records = [records[i] for i in chosen]
            predicted.shapes = [predicted.shapes[i] for i in chosen]
            predicted.areas = predicted.areas[chosen]
        self.records = records
        scores = np.array([record["score"] for record in records], dtype=np.float64)
        own, others = self._group(self.objects), self._group(records)
        self.cells: list[list[tuple[Cell, np.ndarray, np.ndarray]]] = []
        for key in self._category_keys():
            self.cells.append([])
            for image_id in sorted(image["id"] for image in dataset.images):
                columns = np.array(own.get((key, image_id), []), dtype=np.int64)
                rows = np.array(others.get((key, image_id), []), dtype=np.int64)
                if not len(columns) and not len(rows):
                    continue
                rows = rows[np.argsort(-scores[rows], kind="stable")][: rules.limits[-1]]
                cell = Cell(
                    scores=scores[rows],
                    iou=shape_iou(
                        [predicted.shapes[i] for i in rows],
                        [shapes[i] for i in columns],
                        crowd[columns],
                    ),
                    prediction_areas=predicted.areas[rows],
                    truth_areas=areas[columns],
                    crowd=crowd[columns],
                    ignore=few[columns],
                )
                self.cells[-1].append((cell, rows, columns))

    def score(self, ignore: np.ndarray | None = None) -> APScores:
        """Match and average.

        Args:
            ignore (ndarray[G] | None): objects that do not count, bool.
        """
        cells = [
            [
                cell if ignore is None else replace(cell, ignore=cell.ignore | ignore[columns])
                for cell, _, columns in row
            ]
            for row in self.cells
        ]
        curves = self._curves(cells, list(self.rules.area_ranges.values()))
        return self._summarize(curves, 0, list(self.rules.area_ranges)[1:])

    def score_bins(self, rule: OcclusionRule) -> dict[str, APScores]:
        """Match and average in the bins of an occlusion rule.

        Args:
            rule: the bins; under ``fp_policy`` "ratio" the predictions need both masks.

        Returns:
            dict: name of the bin -> scores; without sizes under "ratio", where the bin takes the
            place of the area range.
        """
        if rule.fp_policy == "all":
            return {name: self.score(rule.outside(self.rates, name)) for name in rule.bins}
        own = np.array([_predicted_rate(record) for record in self.records], dtype=np.float64)
        cells = [
            [
                replace(cell, truth_areas=self.rates[columns], prediction_areas=own[rows])
                for cell, rows, columns in row
            ]
            for row in self.cells
        ]
        curves = self._curves(cells, list(rule.bins.values()))
        return {name: self._summarize(curves, a, []) for a, name in enumerate(rule.bins)}

    def _curves(self, cells: list[list[Cell]], ranges: list[tuple[float, float]]) -> Curves:
        limits = np.array(ranges)
        matches = [[match_cell(cell, limits, IOU_THRESHOLDS) for cell in row] for row in cells]
        return accumulate(matches, len(ranges), limits=self.rules.limits)

    def _summarize(self, curves: Curves, index: int, sizes: list[str]) -> APScores:
        """Average precision [T, R, K, A, M] and recall [T, K, A, M] of one of the A ranges."""
        precision, recall = curves.precision, curves.recall
        stats = {
            "AP": mean_defined(precision[:, :, :, index, -1]),
            "AP50": mean_defined(precision[0, :, :, index, -1]),
            "AP75": mean_defined(precision[5, :, :, index, -1]),
        }
        for m, limit in enumerate(self.rules.limits):
            stats[f"AR{limit}"] = mean_defined(recall[:, :, index, m])
        for metric, values in (("AP", precision), ("AR", recall)):
            for a, name in enumerate(sizes, start=1):
                stats[f"{metric}{name[0]}"] = mean_defined(values[..., a, -1])
        names = [] if self.rules.class_agnostic else list(self.categories.values())
        per_category = {
            name: mean_defined(precision[:, :, k, index, -1]) for k, name in enumerate(names)
        }
        return APScores(stats, per_category)

    def _category_keys(self) -> list[int | None]:
        return [None] if self.rules.class_agnostic else list(self.categories)

    def _group(self, entries: Sequence[Record]) -> dict[tuple[int | None, int], list[int]]:
        """Return the positions of the entries of each cell, by category and then as in the file."""
        groups: dict[tuple[int | None, int], list[int]] = {}
        for i in sorted(range(len(entries)), key=lambda i: entries[i]["category_id"]):
            key = None if self.rules.class_agnostic else entries[i]["category_id"]
            groups.setdefault((key, entries[i]["image_id"]), []).append(i)
        return groups


def _predicted_rate(record: Record) -> float:
    """Return 1 - visible / amodal area of a prediction; 1 without an amodal mask."""
    amodal, visible = record[AMODAL_SEGM], record[VISIBLE_SEGM]
    if amodal is None:
        return 1.0
    return 1 - (rle_area(visible) if visible else 0) / rle_area(amodal)
