"""Score image predictions by a named protocol.

- ``coco``: AP and AR of amodal, visible, invisible and (where ground truth or predictions carry
  them) occluder masks and boxes, on demand class-agnostic and by occlusion level.
- ``cocoa``: the COCOA amodalAPI: class-agnostic, crowds are ordinary objects, up to 1000
  predictions per image, all sizes, bins none / partial / heavy, things or stuff or both. Images
  without predictions count here, while the official script stops at them.
- ``kins``: the three numbers of the KINS papers: Det (amodal boxes), Amodal, Inmodal (visible).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from amodal2.evaluation.image_ap import ALL_AREAS, ImageTask, Rules
from amodal2.evaluation.image_details import image_details
from amodal2.evaluation.image_occlusion import OCCLUSION_RULES
from amodal2.evaluation.image_predictions import BOX_KEYS, Record, check_image_predictions
from amodal2.evaluation.image_report import ImageReport
from amodal2.evaluation.image_shapes import Region
from amodal2.structures.image_json import AMODAL_SEGM, OCCLUDER_SEGM, VISIBLE_SEGM, ImageDataset
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

COCO_KINDS = ("amodal", "visible", "invisible", "occluder")
COCO_REGIONS = [Region(kind, boxes) for boxes in (False, True) for kind in COCO_KINDS]
DESCRIPTIONS = {
    "coco": "COCOeval on each kind of mask and box; rows <kind>/<rule>/<bin> ignore objects "
    "outside a bin of the occlusion rate, while predictions that take nothing count against every "
    "bin (but for the rule vrsp)",
    "cocoa": "COCOA amodalAPI: all classes as one, crowds are ordinary objects, up to 1000 "
    "predictions per image; images without predictions count",
    "kins": "Det: amodal boxes, Amodal: amodal masks, Inmodal: visible masks; COCO AP per class",
}
"""Name of the protocol -> what a reader of its numbers must know."""
COCOA_LIMITS = (1, 10, 100, 1000)
KINS_ROWS = {
    "Det": Region("amodal", True),
    "Amodal": Region("amodal"),
    "Inmodal": Region("visible"),
}
KINS_IDS = ({1, 2, 4, 5, 6, 7, 8}, {1, 2, 3, 4, 5, 6, 7, 8})
"""Category ids of KINS 2019 and 2020."""
KINS_TEST_IMAGES = 7517


@dataclass(frozen=True)
class ImageOptions:
    """Choices of an evaluation beyond the protocol.

    Args:
        class_agnostic: (coco) add ``<row>_class_agnostic``: all categories count as one.
        occlusion: (coco) names of rules of ``image_occlusion`` whose bins get rows
            ``<row>/<rule>/<bin>``.
        min_invisible_px: (coco) objects with fewer hidden pixels are ignored in invisible rows.
        stuff: (cocoa) "both", or "things" or "stuff": the objects of the other kind are ignored.

    Raises:
        ValueError: if a name is unknown.
    """

    class_agnostic: bool = False
    occlusion: tuple[str, ...] = ()
    min_invisible_px: int = 0
    stuff: str = "both"

    def __post_init__(self) -> None:
        """Check the names."""
        for name in self.occlusion:
            if name not in OCCLUSION_RULES:
                raise ValueError(
                    f"ImageOptions: expected occlusion rules of {sorted(OCCLUSION_RULES)}, "
                    f"got {name!r}"
                )
        if self.stuff not in ("both", "things", "stuff"):
            raise ValueError(
                f"ImageOptions: expected stuff 'both', 'things' or 'stuff', got {self.stuff!r}"
            )


def evaluate_images(
    dataset: ImageDataset,
    predictions: Iterable[Any],
    *,
    protocol: str = "coco",
    options: ImageOptions | None = None,
    file: str | Path | None = None,
    details: bool = True,
) -> ImageReport:
    """Score predicted objects.

    A row whose masks were not predicted, or that the ground truth does not have, is listed as
    absent with the reason. Without any predictions AP and AR are 0.

    Args:
        dataset: the ground truth.
        predictions: records, see :mod:`amodal2.evaluation.image_predictions`.
        protocol: a name of :data:`PROTOCOLS`.
        options: choices beyond the protocol.
        file: where the predictions come from, for the messages.
        details: keep what the numbers come from (``report.samplers``: the IoU of all pairs) for
            comparisons and charts.

    Returns:
        ImageReport: fractions, counts and notes.

    Raises:
        AnnotationError: if a prediction is invalid.
        ValueError: if the protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"evaluate_images: expected a protocol of {sorted(PROTOCOLS)}, got {protocol!r}"
        )
    records, notes = check_image_predictions(predictions, dataset, file=file)
    counts = {
        "images": len(dataset.images),
        "true objects": len(dataset.annotations),
        "predictions": len(records),
    }
    report = ImageReport(
        protocol, {}, counts=counts, notes=notes, description=DESCRIPTIONS[protocol]
    )
    PROTOCOLS[protocol](_Job(dataset, records, report, details), options or ImageOptions())
    for note in report.notes:
        logger.warning(note)
    return report


@dataclass
class _Job:
    dataset: ImageDataset
    records: list[Record]
    report: ImageReport
    details: bool

    def task(self, name: str, region: Region, rules: Rules) -> ImageTask | None:
        """Prepare a row, or list it as absent."""
        if not all(map(self._truth_has, region.mask_keys)):
            self.report.absent[name] = "not in the ground truth"
            return None
        keys = region.mask_keys
        box_key = BOX_KEYS.get(region.kind)
        has_boxes = region.boxes and all(box_key in record for record in self.records)
        if not has_boxes and not all(key in record for record in self.records for key in keys):
            self.report.absent[name] = "not predicted"
            return None
        if region.boxes and not has_boxes:
            self._note(f"{region.name}: boxes measured from the predicted masks")
        task = ImageTask(self.dataset, self.records, region, rules)
        if task.num_empty and not region.may_be_empty:
            self._note(f"{region.kind}: {task.num_empty} true objects without such pixels left out")
        return task

    def keep(
        self, row: str, task: ImageTask, ignore: np.ndarray | None = None, *, part: bool = False
    ) -> None:
        """Store what the numbers of a row come from, if that is wanted."""
        if not self.details:
            return
        report, images = self.report, sorted(image["id"] for image in self.dataset.images)
        report.samplers[report.protocol, row] = image_details(task, images, ignore, part)

    def _truth_has(self, key: str) -> bool:
        """Tell whether the ground truth has a kind of mask; what nothing lies over needs no key."""
        if key == OCCLUDER_SEGM:
            return any(key in record for record in self.dataset.annotations)
        return self.dataset.has(key)

    def concerns(self, region: Region) -> bool:
        """Tell whether a row is worth a line; few files have occluders."""
        return region.kind != "occluder" or (
            self._truth_has(OCCLUDER_SEGM)
            or any(OCCLUDER_SEGM in record for record in self.records)
        )

    def _note(self, text: str) -> None:
        if text not in self.report.notes:
            self.report.notes.append(text)


def _score_coco(job: _Job, options: ImageOptions) -> None:
    rows = job.report.rows
    for region in filter(job.concerns, COCO_REGIONS):
        for agnostic in [False, True] if options.class_agnostic else [False]:
            name = f"{region.name}_class_agnostic" if agnostic else region.name
            rules = Rules(class_agnostic=agnostic, min_invisible_px=options.min_invisible_px)
            task = job.task(name, region, rules)
            if task is None:
                continue
            rows[name] = task.score()
            job.keep(name, task)
            for rule_name in options.occlusion:
                missing = _missing_rates(job, task, rule_name)
                if missing:
                    job.report.absent[f"{name}/{rule_name}"] = missing
                    continue
                rule = OCCLUSION_RULES[rule_name]
                for bin_name, scores in task.score_bins(rule).items():
                    row = f"{name}/{rule_name}/{bin_name}"
                    rows[row] = scores
                    if rule.fp_policy == "all":
                        job.keep(row, task, rule.outside(task.rates, bin_name), part=True)


def _missing_rates(job: _Job, task: ImageTask, rule: str) -> str | None:
    """Tell why objects or predictions cannot be sorted into bins."""
    if np.isnan(task.rates).any():
        return "no occlusion rates in the ground truth"
    keys = (AMODAL_SEGM, VISIBLE_SEGM)
    if OCCLUSION_RULES[rule].fp_policy == "ratio" and not all(
        key in record for record in job.records for key in keys
    ):
        return "not predicted: needs amodal and visible masks"
    return None


def _score_cocoa(job: _Job, options: ImageOptions) -> None:
    # One category in the files themselves, so that equal scores keep the order of the file.
    job = replace(job, records=_as_one_category(job.records))
    job.dataset = replace(job.dataset, annotations=_as_one_category(job.dataset.annotations))
    rules = Rules(class_agnostic=True, crowd=False, limits=COCOA_LIMITS, area_ranges=ALL_AREAS)
    for region in (Region("amodal"), Region("visible")):
        task = job.task(region.name, region, rules)
        if task is None:
            continue
        other = {"both": None, "things": 1, "stuff": 0}[options.stuff]
        ignore = np.array([o.get("isStuff", 0) == other for o in task.objects], dtype=bool)
        job.report.rows[f"{region.name}/all"] = task.score(ignore)
        job.keep(f"{region.name}/all", task, ignore)
        missing = _missing_rates(job, task, "cocoa")
        if missing:
            job.report.absent[f"{region.name}/cocoa"] = missing
            continue
        rule = OCCLUSION_RULES["cocoa"]
        for name in rule.bins:
            outside = rule.outside(task.rates, name)
            job.report.rows[f"{region.name}/{name}"] = task.score(ignore | outside)
            job.keep(f"{region.name}/{name}", task, ignore | outside, part=True)


def _as_one_category(entries: list[Record]) -> list[Record]:
    return [{**entry, "category_id": 1} for entry in entries]


def _score_kins(job: _Job, options: ImageOptions) -> None:
    del options
    ids = {entry["id"] for entry in job.dataset.categories}
    if ids not in KINS_IDS:
        job.report.notes.append(f"category ids {sorted(ids)} are not those of KINS 2019 or 2020")
    if len(job.dataset.images) != KINS_TEST_IMAGES:
        job.report.notes.append(
            f"{len(job.dataset.images)} images, the KINS test set has {KINS_TEST_IMAGES}"
        )
    for name, region in KINS_ROWS.items():
        task = job.task(name, region, Rules())
        if task is not None:
            job.report.rows[name] = task.score()
            job.keep(name, task)


PROTOCOLS: dict[str, Callable[[_Job, ImageOptions], None]] = {
    "coco": _score_coco,
    "cocoa": _score_cocoa,
    "kins": _score_kins,
}
"""Name of the protocol -> function that fills in the rows of a report."""
