"""SaVos and the U-Net through the trainer: losses fall, runs resume, tests give numbers."""

from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

import amodal2.modeling  # noqa: F401 registers the models
from amodal2.config import get_cfg
from amodal2.data.datasets import register_video_amodal_instances
from amodal2.data.synthetic.gum_writer import GumSpec, write_gum_split
from amodal2.engine import AmodalTrainer

_CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "savos" / "quick"
_NAME = "gum_toy_amodal_test"


@pytest.fixture
def dataset(tmp_path):
    register_video_amodal_instances(
        _NAME, write_gum_split(GumSpec(frames=5), tmp_path / "gum", "test", 2), tmp_path / "gum"
    )
    yield
    DatasetCatalog.remove(_NAME)
    MetadataCatalog.remove(_NAME)


def trainer_of(name, folder, iterations):
    cfg = get_cfg()
    cfg.merge_from_file(str(_CONFIGS / f"{name}_chewing_gum.yaml"))
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
            *("DATASETS.TRAIN", (_NAME,), "DATASETS.TEST", (_NAME,)),
            *("MODEL.SAVOS.BASE_CHANNELS", 2, "MODEL.AMODAL_UNET.CHANNELS", 2),
            *("SOLVER.MAX_ITER", iterations, "SOLVER.CHECKPOINT_PERIOD", 1),
            *("SOLVER.IMS_PER_BATCH", 2, "OUTPUT_DIR", str(folder)),
        ]
    )
    trainer = AmodalTrainer(cfg)
    trainer.resume_or_load()
    return trainer


@pytest.mark.parametrize("name", ["savos", "oracle", "unet"])
def test_trainer_trains_and_tests(dataset, tmp_path, name):
    results = trainer_of(name, tmp_path / "out", 2).train()
    assert results["visible"]["AP"] == 100  # the annotated masks are handed through
    assert 0 <= results["amodal"]["AP"] <= 100


def test_trainer_resumed_run_ends_like_one_at_a_stretch(dataset, tmp_path):
    whole = trainer_of("savos", tmp_path / "a", 3)
    whole.train()
    first = trainer_of("savos", tmp_path / "b", 3)
    first.max_iter = 2
    first.train()
    second = trainer_of("savos", tmp_path / "b", 3)
    assert second.start_iter == 2
    second.train()
    for one, other in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)
