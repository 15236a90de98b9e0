"""AP and AR of image predictions: amodal, visible, invisible and occluder masks and boxes.

Matching is COCO's, per image and category (``coco_engine``). Objects that lie outside an occlusion
bin are ignored: their matches vanish, while a prediction that takes nothing stays a false positive
in every bin (unless the rule says otherwise), so that AP in a bin is lower than AP overall and
recall is the fair number. ``image_protocols`` puts the rows together.

Dimensions: D predictions, G objects, A area ranges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from amodal2.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    Curves,
    mean_defined,
)
from amodal2.evaluation.coco_engine import CocoEngine
from amodal2.evaluation.image_occlusion import OcclusionRule
from amodal2.evaluation.image_predictions import Record
from amodal2.evaluation.image_shapes import Region, predicted_shapes, true_shapes
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
    """Predictions and objects of one region, to be scored once or with several sets of objects.

    Attributes:
        objects: the true objects that have the region's shape.
        num_empty: how many have not.
        shapes: the G masks or boxes of ``objects``.
        areas (ndarray[G]): their areas in pixels.
        few (ndarray[G]): bool; which have too few pixels to count.
        records: the predictions that are scored.
        predicted: their shapes and areas.
        rates (ndarray[G]): occlusion rates of ``objects``, NaN where unknown.
    """

    def __init__(
        self, dataset: ImageDataset, records: Sequence[Record], region: Region, rules: Rules
    ) -> None:
        """Collect and measure the shapes.

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
        predicted = predicted_shapes(records, region)
        if region.may_be_empty:
            chosen = np.flatnonzero(predicted.present()).tolist()
            records = [records[i] for i in chosen]
            predicted.shapes = [predicted.shapes[i] for i in chosen]
            predicted.areas = predicted.areas[chosen]
        self.records = records
        self.shapes, self.areas, self.few, self.predicted = shapes, areas, few, predicted
        self._engine = CocoEngine(
            dataset.images,
            list(self.categories),
            self.objects,
            shapes,
            records,
            predicted.shapes,
            boxes=region.boxes,
            class_agnostic=rules.class_agnostic,
            crowd=rules.crowd,
        )

    def score(self, ignore: np.ndarray | None = None) -> APScores:
        """Match and average.

        Args:
            ignore (ndarray[G] | None): objects that do not count, bool.
        """
        ranges = list(self.rules.area_ranges.values())
        curves = self._curves(self.areas, ignore, self.predicted.areas, ranges)
        return self._summarize(curves, 0, list(self.rules.area_ranges)[1:])

    def score_thresholds(self) -> dict[float, float]:
        """Return AP at every IoU threshold, -1 where undefined, over all sizes."""
        ranges = list(self.rules.area_ranges.values())
        precision = self._curves(self.areas, None, self.predicted.areas, ranges).precision
        return {
            round(float(threshold), 2): mean_defined(precision[t, :, :, 0, -1])
            for t, threshold in enumerate(IOU_THRESHOLDS)
        }

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
        curves = self._curves(self.rates, None, own, list(rule.bins.values()))
        return {name: self._summarize(curves, a, []) for a, name in enumerate(rule.bins)}

    def _curves(
        self,
        truth_areas: np.ndarray,
        ignore: np.ndarray | None,
        predicted_areas: np.ndarray,
        ranges: list[tuple[float, float]],
    ) -> Curves:
        ignored = self.few if ignore is None else self.few | ignore
        limits = self.rules.limits
        return self._engine.curves(truth_areas, ignored, predicted_areas, ranges, limits)

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


def _predicted_rate(record: Record) -> float:
    """Return 1 - visible / amodal area of a prediction; 1 without an amodal mask."""
    amodal, visible = record[AMODAL_SEGM], record[VISIBLE_SEGM]
    if amodal is None:
        return 1.0
    return 1 - (rle_area(visible) if visible else 0) / rle_area(amodal)
