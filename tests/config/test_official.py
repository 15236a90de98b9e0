"""Files in the layouts of AISFormer's and AIStron's configs."""

import logging

import pytest
from detectron2.data import DatasetCatalog
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY

import amodal2.data.datasets
import amodal2.modeling  # noqa: F401 registers the heads
from amodal2.config import get_cfg
from amodal2.config.official import DATASETS, IMPLIED, LEFT_OUT, RENAMED

AISFORMER = """
_BASE_: '../base.yaml'
OUTPUT_DIR: ../data/train_outputs/aisformer/
MODEL:
  MASK_ON: True
  ROI_MASK_HEAD:
    CUSTOM_NAME: AISFormer
  AISFormer:
    JUSTIFY_LOSS: False
    N_LAYERS: 2
    USE: True
    AMODAL_EVAL: True
TEST:
  EVAL_PERIOD: 1
"""
BASE = """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  ROI_HEADS:
    NAME: "StandardROIHeads"
    NUM_CLASSES: 7
  ROI_MASK_HEAD:
    NAME: "MaskRCNNConvUpsampleHead"
DATASETS:
  TRAIN:
  - kins_dataset_train
  TEST:
  - kins_dataset_val
OUTPUT_DIR:
  TRAIN_VERSION: 'mask_rcnn_amodal_kins_res50_1x_2'
SEED: 1
"""
AISTRON = """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNNAmodal"
  ROI_MASK_HEAD:
    NAME: AISFormer
AISFORMER:
  INVISIBLE_MASK_LOSS: True
  N_HEADS: 4
  EMB_DIM: 256
AISTRON:
  INFERENCE_WITH_GT_BOXES: True
DATASETS:
  TRAIN: ("d2sa_train_aug","d2sa_train")
  TEST: ("d2sa_val",)
SOLVER:
  WEIGHT_DECAY: 0.5
"""


def merged(folder, text):
    (folder / "sub").mkdir()
    (folder / "base.yaml").write_text(BASE)
    (folder / "sub" / "config.yaml").write_text(text)
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "sub" / "config.yaml"))
    return cfg


def test_file_of_aisformer_loads_and_every_change_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "amodal2.config.official"):
        cfg = merged(tmp_path, AISFORMER)
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == "AISFormer"
    assert (cfg.MODEL.AISFORMER.N_LAYERS, cfg.MODEL.AISFORMER.INVISIBLE_EMBED) == (2, False)
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNNAmodal"
    assert cfg.INPUT.AMODAL.MAPPER == "ImageMapper"
    assert cfg.SOLVER.OPTIMIZER == "SGD"
    assert cfg.DATASETS.TRAIN == ("kins_2019_amodal_train",)
    assert cfg.DATASETS.TEST == ("kins_2019_amodal_test",)
    assert cfg.OUTPUT_DIR == "../data/train_outputs/aisformer/"
    assert "MODEL.AISFormer.JUSTIFY_LOSS is MODEL.AISFORMER.INVISIBLE_EMBED here" in caplog.text
    assert "MODEL.ROI_MASK_HEAD.CUSTOM_NAME is MODEL.ROI_MASK_HEAD.NAME here" in caplog.text
    assert "MODEL.AISFormer.USE is left out: it is always True here" in caplog.text
    assert "DATASETS.TEST is set to ('kins_2019_amodal_test',)" in caplog.text


def test_file_of_aistron_loads(tmp_path):
    cfg = merged(tmp_path, AISTRON)
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == "AISFormerDeep"
    assert cfg.MODEL.AISFORMER.N_HEADS == 4
    assert cfg.MODEL.AMODAL_RCNN.INFERENCE_WITH_GT_BOXES
    assert cfg.DATASETS.TRAIN == ("d2sa_v1_amodal_train",)
    assert cfg.SOLVER.WEIGHT_DECAY == 0.5


def test_files_without_official_keys_stay_as_they_are(tmp_path):
    cfg = merged(
        tmp_path, "MODEL:\n  ROI_MASK_HEAD:\n    NAME: BCNet\nDATASETS:\n  TRAIN: ('a',)\n"
    )
    fresh = get_cfg()
    assert cfg.DATASETS.TRAIN == ("a",)
    assert cfg.MODEL.META_ARCHITECTURE == fresh.MODEL.META_ARCHITECTURE
    assert cfg.INPUT == fresh.INPUT


def test_official_keys_of_the_command_line_are_renamed():
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.AISFormer.N_HEADS", 4, "AISTRON.INFERENCE_WITH_GT_BOXES", True])
    assert cfg.MODEL.AISFORMER.N_HEADS == 4
    assert cfg.MODEL.AMODAL_RCNN.INFERENCE_WITH_GT_BOXES


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("AISFormer:\n    BO_LOSS: True", "expected MODEL.AISFormer.BO_LOSS False.*got True"),
        ("AISFormer:\n    N_HEADS: 4\n  AISFORMER:\n    N_HEADS: 2", "expected one of .*got both"),
    ],
)
def test_official_values_without_a_counterpart_are_refused(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        merged(tmp_path, f"MODEL:\n  {lines}\n")


def test_unknown_keys_of_official_sections_are_refused(tmp_path):
    with pytest.raises(KeyError, match=r"MODEL\.AISFormer"):
        merged(tmp_path, "MODEL:\n  AISFormer:\n    N_LAYER: 2\n")


def test_every_name_on_our_side_exists():
    cfg = get_cfg()
    for name in (*RENAMED.values(), *IMPLIED):
        node = cfg
        for part in name.split("."):
            node = node[part]
    assert set(DATASETS.values()) <= set(DatasetCatalog.list())
    assert not set(LEFT_OUT) & set(RENAMED)
    assert {"AISFormer", "AISFormerDeep"} <= {name for name, _ in ROI_MASK_HEAD_REGISTRY}
