from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal2.evaluation.coco_engine import CocoEngine
from amodal2.structures.rle import encode_mask, rle_area, rle_box

SIZE = (60, 80)
RANGES = [(0, 1e10), (0, 300), (300, 900)]
LIMITS = (1, 5, 100)


class IgnoringCOCOeval(COCOeval):
    """The official evaluation, with flags set where the file's ones would be overwritten."""

    ignored: frozenset[int] = frozenset()

    def _prepare(self):
        super()._prepare()
        for objects in self._gts.values():
            for record in objects:
                record["ignore"] = record["ignore"] or record["id"] in self.ignored


def random_data(seed: int, boxes: bool):
    """Return images, objects and predictions with ties, crowds and empty masks, ids with gaps."""
    random = np.random.default_rng(seed)
    images = [{"id": number, "height": SIZE[0], "width": SIZE[1]} for number in (9, 2, 5, 4)]

    def record(number: int, **keys) -> dict:
        mask = np.zeros(SIZE, dtype=bool)
        y, x = random.integers(0, 30, 2)
        mask[y : y + random.integers(5, 40), x : x + random.integers(5, 40)] = True
        rle = encode_mask(mask)
        image, category = (
            int(random.choice([9, 2, 5])),
            int(random.choice([3, 8, 40], p=[0.6, 0.3, 0.1])),
        )
        return {
            "id": number,
            "image_id": image,
            "category_id": category,
            "shape": [float(side) for side in rle_box(rle)] if boxes else rle,
            "area": float(rle_area(rle)),
            **keys,
        }

    truth = [record(number, iscrowd=int(random.random() < 0.1)) for number in range(1, 31)]
    scores = random.integers(1, 6, 90) / 5
    predicted = [record(number, score=float(score)) for number, score in enumerate(scores, start=1)]
    for old, new in zip(truth, predicted, strict=False):  # hits, of which some are exact
        new.update({key: old[key] for key in ("image_id", "category_id", "shape", "area")})
    for one in predicted[60:64]:
        one.update(shape=None, area=0.0)
    return images, truth, predicted


def official(images, truth, predicted, ignored, *, boxes, class_agnostic):
    """Return precision and recall of pycocotools."""
    empty = [0, 0, 0, 0] if boxes else encode_mask(np.zeros(SIZE, dtype=bool))
    key = "bbox" if boxes else "segmentation"
    categories = [{"id": number, "name": str(number)} for number in (3, 8, 40)]
    sides = []
    for records in (truth, predicted):
        coco = COCO()
        annotations = [{"iscrowd": 0, **r, key: r["shape"] or empty} for r in records]
        coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        sides.append(coco)
    with contextlib.redirect_stdout(io.StringIO()):
        run = IgnoringCOCOeval(*sides, "bbox" if boxes else "segm")
        run.ignored = frozenset(ignored)
        run.params.areaRng, run.params.areaRngLbl = RANGES, ["all", "small", "medium"]
        run.params.maxDets = list(LIMITS)
        run.params.useCats = int(not class_agnostic)
        run.evaluate()
        run.accumulate()
    return run.eval["precision"], run.eval["recall"]


@pytest.mark.parametrize("class_agnostic", [False, True], ids=["classes", "agnostic"])
@pytest.mark.parametrize("boxes", [False, True], ids=["masks", "boxes"])
@pytest.mark.parametrize("seed", range(5))
def test_coco_engine_equals_pycocotools_with_any_ignored_objects(seed, boxes, class_agnostic):
    images, truth, predicted = random_data(seed, boxes)
    shapes = [[record["shape"] for record in side] for side in (truth, predicted)]
    engine = CocoEngine(
        images,
        [3, 8, 40],
        *(truth, shapes[0]),
        *(predicted, shapes[1]),
        boxes=boxes,
        class_agnostic=class_agnostic,
    )
    random = np.random.default_rng(seed)
    for share in (0.0, 0.4, 1.0):
        ignore = random.random(len(truth)) < share
        numbers = [record["id"] for record, flag in zip(truth, ignore, strict=True) if flag]
        areas = [np.array([record["area"] for record in side]) for side in (truth, predicted)]
        curves = engine.curves(areas[0], ignore, areas[1], RANGES, LIMITS)
        precision, recall = official(
            images, truth, predicted, numbers, boxes=boxes, class_agnostic=class_agnostic
        )
        np.testing.assert_array_equal(curves.precision, precision)
        np.testing.assert_array_equal(curves.recall, recall)
        assert (recall > 0).any() == (share < 1)
