from __future__ import annotations

import pytest
from detectron2.data import MetadataCatalog

from amodal2.config import get_cfg
from amodal2.evaluation.build import EVALUATORS, build_evaluator
from amodal2.evaluation.video_amodal import VideoAmodalEvaluator
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import write

NAME = "toy_v1_amodal_build"


@pytest.fixture
def metadata():
    yield MetadataCatalog.get(NAME)
    MetadataCatalog.pop(NAME)


def test_build_evaluator_follows_the_evaluator_type(metadata, tmp_path):
    metadata.set(json_file="gt.json", evaluator_type="video_amodal")
    assert isinstance(build_evaluator(get_cfg(), NAME, tmp_path), VideoAmodalEvaluator)


def test_build_evaluator_config_chooses_the_metrics(metadata):
    metadata.set(json_file="gt.json", evaluator_type="video_amodal")
    cfg = get_cfg()
    cfg.TEST.AMODAL.VIDEO_METRICS = ["hota"]
    cfg.TEST.AMODAL.VIDEO_BOXES = True
    cfg.TEST.AMODAL.TRACKING_SCORE_THRESHOLD = 0.3
    cfg.freeze()
    assert build_evaluator(cfg, NAME).options == {
        "metrics": ("hota",),
        "boxes": True,
        "score_threshold": 0.3,
    }


def test_build_evaluator_config_chooses_the_image_protocol(tmp_path):
    path = write(tmp_path, image_content(thing(1)))
    MetadataCatalog.get(NAME).set(json_file=str(path), evaluator_type="coco_amodal")
    try:
        cfg = get_cfg()
        evaluator = build_evaluator(cfg, NAME)
        assert {"amodal/cocoa/none", "amodal"} <= set(evaluator.evaluate())
        cfg.TEST.AMODAL.IMAGE_OCCLUSION = ("a2vis",)
        rows = set(build_evaluator(cfg, NAME).evaluate())
        assert "amodal/a2vis/lt50" in rows
        assert not any("cocoa" in row for row in rows)
        cfg.TEST.AMODAL.IMAGE_PROTOCOL = "kins"
        assert list(build_evaluator(cfg, NAME).evaluate()) == ["Det", "Amodal", "Inmodal"]
        cfg.TEST.AMODAL.IMAGE_PROTOCOL = "lvis"
        with pytest.raises(ValueError, match=r"protocol of .*coco.*got 'lvis'"):
            build_evaluator(cfg, NAME)
    finally:
        MetadataCatalog.pop(NAME)


def test_build_evaluator_unknown_type_names_the_known_ones(metadata):
    with pytest.raises(ValueError, match=rf"{NAME}.*{sorted(EVALUATORS)[0]}.*got None"):
        build_evaluator(get_cfg(), NAME)
