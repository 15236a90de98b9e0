from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from amodal2.evaluation.image_amodal import (
    PREDICTIONS_FILE,
    REPORT_FILE,
    TABLE_FILE,
    ImageAmodalEvaluator,
    instances_to_records,
)
from amodal2.structures.rle import decode_rle
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import CRAB, FISH, SIZE, bar, write

NAME = "toy_v1_amodal_image_evaluator"


@pytest.fixture
def name(tmp_path):
    """Register the metadata of two images with one object each."""
    path = write(tmp_path, image_content(thing(1), thing(2, 2, CRAB), images=2))
    MetadataCatalog.get(NAME).set(json_file=str(path), evaluator_type="coco_amodal")
    yield NAME
    MetadataCatalog.pop(NAME)


def objects(index: int, **masks: dict) -> Instances:
    """Return one predicted object of a contiguous class; masks are given by field name."""
    found = Instances(SIZE)
    found.pred_classes = torch.tensor([index])
    found.scores = torch.tensor([0.5])
    found.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 10.0, 4.0]]))
    for field, mask in (masks or {"pred_masks": bar(0, 10)}).items():
        found.set(field, torch.from_numpy(decode_rle(mask))[None])
    return found


BOTH = {"pred_amodal_masks": bar(0, 10), "pred_visible_masks": bar(0, 5)}


def feed(evaluator: ImageAmodalEvaluator, image: int, instances: Instances) -> None:
    evaluator.process([{"image_id": image}], [{"instances": instances}])


def test_image_amodal_evaluator_perfect_objects_score_100(name, tmp_path):
    evaluator = ImageAmodalEvaluator(name, tmp_path / "out", distributed=False)
    evaluator.reset()
    feed(evaluator, 2, objects(1, **BOTH))
    feed(evaluator, 1, objects(0, **BOTH))
    results = evaluator.evaluate()
    rows = [f"{kind}{box}" for box in ("", "_bbox") for kind in ("amodal", "visible", "invisible")]
    assert [results[row]["AP"] for row in rows] == pytest.approx([100] * 6)
    assert results["amodal/cocoa/heavy"]["AR1"] == pytest.approx(100)
    assert results["amodal/cocoa/none"] == {}
    records = json.loads((tmp_path / "out" / PREDICTIONS_FILE).read_text())
    assert [(r["image_id"], r["category_id"]) for r in records] == [(1, FISH), (2, CRAB)]
    assert records[0]["bbox"] == [0, 0, 10, 4]
    assert json.loads((tmp_path / "out" / REPORT_FILE).read_text()) == evaluator.report.to_dict()
    assert evaluator.report.samplers == {}  # the IoU of all pairs would stay in memory
    assert "image,coco,amodal,mean,,AP," in (tmp_path / "out" / TABLE_FILE).read_text()


def test_image_amodal_evaluator_stock_masks_are_amodal(name):
    evaluator = ImageAmodalEvaluator(name, distributed=False)
    feed(evaluator, 1, objects(0))
    feed(evaluator, 2, objects(1))
    results = evaluator.evaluate()
    assert results["amodal"]["AP"] == pytest.approx(100)
    assert "visible" not in results
    assert evaluator.report.absent["visible"] == "not predicted"


def test_image_amodal_evaluator_reset_forgets(name):
    evaluator = ImageAmodalEvaluator(name, distributed=False)
    feed(evaluator, 1, objects(0))
    evaluator.reset()
    assert evaluator.evaluate()["amodal"]["AP"] == 0


def test_image_amodal_evaluator_joins_the_ranks_on_the_main_process(name, monkeypatch):
    first, second = ImageAmodalEvaluator(name), ImageAmodalEvaluator(name)
    feed(first, 2, objects(1))
    feed(second, 1, objects(0))
    parts = []
    monkeypatch.setattr(comm, "gather", lambda part, dst: parts.append(part) or parts)
    monkeypatch.setattr(comm, "is_main_process", lambda: len(parts) == 2)
    assert first.evaluate() == {}
    assert second.evaluate()["amodal"]["AP"] == pytest.approx(100)


def test_image_amodal_evaluator_without_annotations_writes_predictions_only(tmp_path, name):
    write(tmp_path, image_content(images=2))
    evaluator = ImageAmodalEvaluator(name, tmp_path / "out", distributed=False)
    feed(evaluator, 1, objects(0))
    assert evaluator.evaluate() == {}
    assert (tmp_path / "out" / PREDICTIONS_FILE).is_file()
    assert not (tmp_path / "out" / REPORT_FILE).exists()


def test_image_amodal_evaluator_class_index_out_of_range_raises(name):
    evaluator = ImageAmodalEvaluator(name, distributed=False)
    feed(evaluator, 1, objects(2))
    with pytest.raises(ValueError, match=r"class indices below 2.*got 2 in image 1.*NUM_CLASSES"):
        evaluator.evaluate()


def test_image_amodal_evaluator_unregistered_dataset_raises():
    with pytest.raises(ValueError, match="register_amodal_coco_instances"):
        ImageAmodalEvaluator("toy_unknown")
    MetadataCatalog.pop("toy_unknown")


def test_instances_to_records_mask_scores_are_cut_at_one_half():
    found = objects(0)
    found.pred_masks = found.pred_masks.float() * 0.4 + 0.2
    (record,) = instances_to_records(found, 1)
    assert np.array_equal(decode_rle(record["amodal_segm"]), decode_rle(bar(0, 10)))


def test_instances_to_records_without_masks_raises():
    found = objects(0)
    found.remove("pred_masks")
    with pytest.raises(ValueError, match=r"pred_visible_masks, got .*'scores'\] in image 7"):
        instances_to_records(found, 7)


def test_instances_to_records_masks_inside_boxes_name_the_remedy():
    found = objects(0)
    found.pred_amodal_masks = torch.zeros(1, 1, 28, 28)
    with pytest.raises(ValueError, match=r"\(1, 1, 28, 28\); GeneralizedRCNNAmodal pastes"):
        instances_to_records(found, 7)
