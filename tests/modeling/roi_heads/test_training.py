"""Every head in the training loop, with the image mapper and the image evaluator."""

import json
import math

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.data.datasets import register_video_amodal_instances
from amodal2.engine import AmodalTrainer
from amodal2.modeling.roi_heads import GeneralizedRCNNAmodal
from tests.engine.toy import make_videos, restored_loggers, toy_config
from tests.modeling.roi_heads.test_heads import HEADS
from tests.modeling.roi_heads.tiny import tiny_config
from tests.modeling.roi_heads.toy_pictures import make_pictures


def training_config(folder, head, *changes):
    name = make_pictures(folder)
    keys = {
        "INPUT.AMODAL.MAPPER": "ImageMapper",
        "INPUT.MIN_SIZE_TRAIN": (64,),
        "INPUT.MIN_SIZE_TEST": 64,
        "DATASETS.TRAIN": (name,),
        "DATASETS.TEST": (),
        "DATALOADER.NUM_WORKERS": 0,
        "MODEL.ROI_HEADS.NUM_CLASSES": 2,
        "SOLVER.OPTIMIZER": "SGD",
        "SOLVER.IMS_PER_BATCH": 1,
        "SOLVER.BASE_LR": 0.001,
        "SOLVER.MAX_ITER": 2,
        "SOLVER.STEPS": (),
        "SOLVER.WARMUP_ITERS": 1,
        "SEED": 1,
        "OUTPUT_DIR": str(folder / "out"),
    }
    return tiny_config(head, *(value for pair in keys.items() for value in pair), *changes)


@pytest.mark.parametrize("head", HEADS)
def test_trainer_trains_every_head(tmp_path, head):
    with restored_loggers():
        AmodalTrainer(training_config(tmp_path, head)).train()
    lines = (tmp_path / "out" / "metrics.json").read_text().splitlines()
    metrics = json.loads(lines[-1])
    assert metrics["iteration"] == 1
    assert all(math.isfinite(metrics[f"loss_{kind}_mask"]) for kind in HEADS[head])
    assert {f"mask_head/{kind}_accuracy" for kind in HEADS[head]} <= metrics.keys()


def test_trainer_trains_on_visible_masks_alone(tmp_path):
    cfg = training_config(tmp_path, "MaskJointHead")
    file = tmp_path / "gt.json"
    content = json.loads(file.read_text())
    for record in content["annotations"]:
        del record["amodal_segm"]
    file.write_text(json.dumps(content))
    with restored_loggers():
        AmodalTrainer(cfg).train()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text().splitlines()[-1])
    assert metrics["loss_amodal_mask"] == 0
    assert metrics["loss_visible_mask"] > 0


def test_trainer_evaluates_true_boxes(tmp_path):
    cfg = training_config(tmp_path, "AISFormer", "MODEL.AMODAL_RCNN.INFERENCE_WITH_GT_BOXES", True)
    cfg.DATASETS.TEST = cfg.DATASETS.TRAIN
    with restored_loggers():
        results = AmodalTrainer(cfg).train()
    assert {"amodal", "visible", "invisible"} <= results.keys()
    records = json.loads(
        next((tmp_path / "out" / "inference").rglob("image_predictions.json")).read_text()
    )
    assert len(records) == 6
    assert {"amodal_segm", "visible_segm", "occluder_segm", "bbox"} <= records[0].keys()


def test_trainer_averages_over_augmented_images(tmp_path, monkeypatch):
    sizes = []
    real = GeneralizedRCNNAmodal.inference

    def inference(self, inputs, detected_instances=None, do_postprocess=True):
        sizes.extend(tuple(sample["image"].shape[1:]) for sample in inputs)
        return real(self, inputs, detected_instances, do_postprocess)

    monkeypatch.setattr(GeneralizedRCNNAmodal, "inference", inference)
    augmented = ["TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (64, 80)]
    cfg = training_config(tmp_path, "MaskJointHead", *augmented)
    cfg.DATASETS.TEST = cfg.DATASETS.TRAIN
    with restored_loggers():
        results = AmodalTrainer(cfg).train()
    assert {"amodal", "visible"} <= results.keys()
    assert set(sizes) == {(64, 96), (80, 120)}
    assert len(sizes) == 3 * 8  # images; two sizes, mirrored or not, boxes and masks


def test_trainer_refuses_augmented_images_where_there_is_no_average(tmp_path):
    keys = ["TEST.AUG.ENABLED", True, "MODEL.META_ARCHITECTURE"]
    with restored_loggers():
        for name in ("GeneralizedRCNN", "AmodalTrackRCNN"):
            cfg = training_config(tmp_path, "MaskJointHead", *keys, name)
            with pytest.raises(ValueError, match=f"got {name}; set TEST.AUG.ENABLED False"):
                AmodalTrainer(cfg)
        cfg = training_config(tmp_path, "MaskJointHead", *keys, "GeneralizedRCNNAmodal")
        cfg.MODEL.AMODAL_RCNN.INFERENCE_WITH_GT_BOXES = True
        with pytest.raises(ValueError, match="true boxes need no augmentation"):
            AmodalTrainer(cfg)


def test_trainer_trains_tracks(tmp_path):
    images = training_config(tmp_path, "AISFormer", "MODEL.META_ARCHITECTURE", "AmodalTrackRCNN")
    videos = toy_config(tmp_path, tmp_path / "out")
    images.DATASETS.TRAIN = videos.DATASETS.TRAIN
    images.INPUT.AMODAL.MAPPER = "ClipMapper"
    images.INPUT.AMODAL.CLIP_LEN, images.INPUT.AMODAL.NUM_CLIPS = 2, 1
    tested = "toy_2026_amodal_track_rcnn"
    file, dicts = tmp_path / "videos.json", make_videos(tmp_path, num_videos=1)
    records = [
        {**record, "id": n, "video_id": video["video_id"], "category_id": record["category_id"] + 1}
        for video in dicts
        for n, record in enumerate(video.pop("annotations"), 1)
    ]
    entries = [{"id": video.pop("video_id"), **video} for video in dicts]
    names = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    file.write_text(json.dumps({"videos": entries, "annotations": records, "categories": names}))
    register_video_amodal_instances(tested, file, tmp_path)
    images.DATASETS.TEST = (tested,)
    try:
        with restored_loggers():
            results = AmodalTrainer(images).train()
    finally:
        DatasetCatalog.remove(tested)
        MetadataCatalog.remove(tested)
    assert {"visible", "amodal"} <= results.keys()
    assert "AP50" in results["amodal"]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text().splitlines()[0])
    assert math.isfinite(metrics["loss_track"])
    assert math.isfinite(metrics["loss_occluder_mask"])


@pytest.mark.slow
def test_aisformer_learns_a_few_pictures_by_heart(tmp_path):
    keys = {
        "SOLVER.OPTIMIZER": "ADAMW",
        "SOLVER.BACKBONE_MULTIPLIER": 1.0,
        "SOLVER.BASE_LR": 0.004,
        "SOLVER.MAX_ITER": 150,
        "SOLVER.STEPS": (120,),
        "SOLVER.WARMUP_ITERS": 10,
        "INPUT.RANDOM_FLIP": "none",
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
        "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.5,
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 7,
        "MODEL.AISFORMER.EMB_DIM": 32,
    }
    cfg = training_config(tmp_path, "AISFormer", *(v for pair in keys.items() for v in pair))
    cfg.DATASETS.TEST = cfg.DATASETS.TRAIN
    with restored_loggers():
        results = AmodalTrainer(cfg).train()
    assert results["amodal"]["AP"] > 70
    assert results["visible"]["AP"] > 70
