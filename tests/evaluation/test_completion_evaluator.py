"""Completions of image objects, scored behind the interface of evaluators."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances

from amodal2.config import get_cfg
from amodal2.evaluation.build import build_evaluator
from amodal2.evaluation.completion_evaluator import PREDICTIONS_FILE, CompletionEvaluator
from amodal2.structures import encode_mask
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import write

NAME = "toy_v1_amodal_completion"
SIZE = (40, 60)


def block(top, left, bottom, right):
    mask = np.zeros(SIZE, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


WHOLE = {11: block(10, 20, 30, 40), 12: block(4, 6, 24, 26)}


@pytest.fixture
def dataset(tmp_path):
    seen = {11: WHOLE[11], 12: WHOLE[12] & ~WHOLE[11]}
    things = [
        thing(n, amodal_segm=encode_mask(WHOLE[n]), visible_segm=encode_mask(seen[n])) for n in seen
    ]
    data = image_content(*things)
    data["images"][0].update(height=SIZE[0], width=SIZE[1])
    path = write(tmp_path, data)
    MetadataCatalog.get(NAME).set(json_file=str(path), evaluator_type="coco_amodal")
    yield seen
    MetadataCatalog.pop(NAME)


def process(evaluator, masks):
    """Hand over one object at a time, as a system that works on patches does."""
    evaluator.reset()
    for number, mask in masks.items():
        found = Instances(SIZE)
        found.set("pred_amodal_masks", torch.from_numpy(mask)[None])
        evaluator.process([{"annotation_id": number, "image_id": 1}], [{"instances": found}])
    return evaluator.evaluate()


def test_truth_scores_one_hundred_and_visible_masks_score_no_hidden_part(dataset, tmp_path):
    cfg = get_cfg()
    cfg.TEST.AMODAL.IMAGE_PROTOCOL = "completion"
    evaluator = build_evaluator(cfg, NAME, tmp_path / "out")
    assert isinstance(evaluator, CompletionEvaluator)
    perfect = process(evaluator, WHOLE)["c2f_image"]
    assert perfect["full"] == pytest.approx(100)
    assert perfect["occ"] == pytest.approx(100, abs=0.1)
    modal = process(evaluator, dataset)["c2f_image"]
    share = dataset[12].sum() / WHOLE[12].sum()
    assert modal["full"] == pytest.approx(50 * (1 + share))
    assert modal["occ"] == pytest.approx(0, abs=0.1)
    written = json.loads((tmp_path / "out" / PREDICTIONS_FILE).read_text())
    assert [record["gt_id"] for record in written] == [11, 12]


@pytest.mark.usefixtures("dataset")
def test_empty_and_missing_masks_count_as_nothing():
    evaluator = CompletionEvaluator(NAME)
    found = process(evaluator, {12: np.zeros(SIZE, bool)})["c2f_image"]
    assert found["full"] == pytest.approx(0, abs=1e-6)
    assert evaluator.report.counts["objects"] == 2
