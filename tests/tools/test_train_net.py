"""The command line of the training tool."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.checkpoint import AmodalCheckpointer
from amodal2.config import get_cfg
from amodal2.data.datasets import datasets_root, register_builtin_datasets
from amodal2.data.datasets.builtin import IMAGE_DATASETS, VIDEO_DATASETS
from amodal2.data.synthetic.writer import DatasetSpec, write_split
from amodal2.utils.errors import CheckpointError
from tests.conftest import REPOSITORY
from tests.engine.toy import ToySystem, restored_loggers, toy_config
from tests.modeling.tiny import TINY_KEYS

TOOL = REPOSITORY / "tools" / "train_net.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("train_net", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_train_net_keys_of_the_command_line_win(tool, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("SOLVER:\n  BASE_LR: 0.5\n  MAX_ITER: 7\n")
    args = tool.parse_arguments(["--config-file", str(config), "SOLVER.MAX_ITER", "9"])
    cfg = tool.load_config(args)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (0.5, 9)
    assert cfg.is_frozen()


def test_train_net_trains_and_resumes(tool, tmp_path):
    cfg = toy_config(tmp_path / "data", tmp_path / "out", "SOLVER.MAX_ITER", 2)
    (tmp_path / "c.yaml").write_text(cfg.dump())
    args = ["--config-file", str(tmp_path / "c.yaml")]
    with restored_loggers():
        tool.main(tool.parse_arguments(args))
        assert (tmp_path / "out" / "model_final.pth").exists()
        tool.main(tool.parse_arguments([*args, "--resume", "SOLVER.MAX_ITER", "4"]))
    assert '"iteration": 3' in (tmp_path / "out" / "metrics.json").read_text()


@pytest.fixture
def evaluated(tool, tmp_path, monkeypatch):
    """Return a function that runs --eval-only with more arguments and gives the tested models."""
    cfg = toy_config(tmp_path / "data", tmp_path / "out")
    (tmp_path / "c.yaml").write_text(cfg.dump())
    models = []
    monkeypatch.setattr(tool.AmodalTrainer, "test", lambda cfg, model: models.append(model))

    def run(*arguments):
        args = ["--config-file", str(tmp_path / "c.yaml"), "--eval-only", *map(str, arguments)]
        with restored_loggers():
            tool.main(tool.parse_arguments(args))
        return models

    return run


def test_train_net_evaluates_the_weights_or_the_last_checkpoint(tmp_path, evaluated):
    for name, folder in (("given", tmp_path), ("model_0000001", tmp_path / "out")):
        folder.mkdir(exist_ok=True)
        model = ToySystem(get_cfg())
        model.head.bias.data.fill_(len(name))
        AmodalCheckpointer(model, folder).save(name)
    weights = ("MODEL.WEIGHTS", tmp_path / "given.pth")
    evaluated(*weights)
    evaluated("--resume", *weights)
    models = evaluated("--resume")
    assert [model.head.bias[0].item() for model in models] == [5, 13, 13]


def test_train_net_evaluation_without_weights_raises(evaluated):
    for options in ([], ["--resume"]):
        with pytest.raises(ValueError, match=r"got an empty MODEL\.WEIGHTS; append"):
            evaluated(*options)


def test_train_net_evaluation_of_weights_that_do_not_fit_raises(tmp_path, evaluated):
    model = ToySystem(get_cfg())
    del model.table
    AmodalCheckpointer(model, tmp_path).save("other")
    with pytest.raises(CheckpointError, match=r"1 missing from the file: table\.weight"):
        evaluated("MODEL.WEIGHTS", tmp_path / "other.pth")


def test_train_net_is_small_and_knows_no_model(tool):
    source = TOOL.read_text()
    assert len(source.splitlines()) < 150
    assert "META_ARCHITECTURE" not in source


def put_datasets_below(root: str) -> None:
    """Make the names of the built-in datasets mean files below another root."""
    for name in (*VIDEO_DATASETS, *IMAGE_DATASETS):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_builtin_datasets(root)


@pytest.fixture(scope="module")
def aquarium(tmp_path_factory):
    """Two rendered videos of six frames, as the built-in training set."""
    root = tmp_path_factory.mktemp("datasets")
    spec = DatasetSpec(seed=3, width=96, height=64, frames=6)
    write_split(spec, root / "aquarium", "train", 2, workers=1)
    put_datasets_below(str(root))
    yield root
    put_datasets_below(datasets_root())


@pytest.fixture
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# bfloat16 is emulated on most CPUs, and slow.
_SHORT_RUN = (
    *(str(x) for x in TINY_KEYS),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "6", "MODEL.WEIGHTS", ""),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "DATASETS.TEST", "()"),
    *("SOLVER.MAX_ITER", "8", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.AMP.ENABLED", "False"),
    # So that the few steps change the weights visibly.
    *("SOLVER.WARMUP_ITERS", "0"),
)
_LEVELS = {
    # With batch normalisation that is trained, whose statistics are part of the weights.
    "frame": ("a2vis_aquarium_frame.yaml", "SOLVER.IMS_PER_BATCH", "2"),
    "video": ("a2vis_aquarium.yaml", "SOLVER.IMS_PER_BATCH", "1", "INPUT.AMODAL.NUM_CLIPS", "2"),
}


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("level", _LEVELS)
def test_train_net_a2vis_killed_and_resumed_gives_the_same_weights(tool, tmp_path, aquarium, level):
    config, *changes = _LEVELS[level]
    path = REPOSITORY / "configs" / "a2vis" / "quick" / config

    def arguments(name, *options):
        output = ("OUTPUT_DIR", str(tmp_path / name))
        return ["--config-file", str(path), *options, *_SHORT_RUN, *changes, *output]

    killed = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(TOOL), *arguments("killed")],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "DETECTRON2_DATASETS": str(aquarium),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    try:
        # The tag follows the file: killed between them, the run resumes from the one before.
        tag = tmp_path / "killed" / "last_checkpoint"
        while not tag.exists() or tag.read_text() not in ("model_0000003.pth", "model_0000005.pth"):
            assert killed.poll() is None, "the run ended before its second checkpoint"
            assert time.monotonic() < deadline, "no second checkpoint within two minutes"
            time.sleep(0.005)
    finally:
        killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model_final.pth").exists()
    with restored_loggers():
        tool.main(tool.parse_arguments(arguments("killed", "--resume")))
        tool.main(tool.parse_arguments(arguments("whole")))
    starts = [
        re.findall(r"training from iteration (\d+)", (tmp_path / name / "log.txt").read_text())
        for name in ("killed", "whole")
    ]
    assert starts[0][0] == "0"
    assert starts[0][1] in ("4", "6")
    assert starts[1] == ["0"]
    resumed, whole = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"]
        for name in ("killed", "whole")
    )
    first = torch.load(tmp_path / "whole" / "model_0000001.pth", weights_only=True)["model"]
    assert resumed.keys() == whole.keys() == first.keys()
    assert [name for name in whole if not torch.equal(resumed[name], whole[name])] == []
    assert not all(torch.equal(first[name], whole[name]) for name in whole)


_BASELINES = ("vita", "genvis", "genvis_online", "minvis", "mask2former_vis")
_AMODAL_BASELINES = ("vita_amodal", "genvis_amodal", "mask2former_amodal", "frame_amodal")


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("name", _BASELINES + _AMODAL_BASELINES)
def test_train_net_baseline_trains_and_is_scored_by_its_kind(tool, tmp_path, aquarium, name):
    path = REPOSITORY / "configs" / "baselines" / "quick" / f"{name}_aquarium.yaml"
    changes = ("SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "1", "TEST.EVAL_PERIOD", "1")
    data = ("DATASETS.TEST", "('aquarium_v1_amodal_train',)", "OUTPUT_DIR", str(tmp_path))
    with restored_loggers():
        tool.main(tool.parse_arguments(["--config-file", str(path), *_SHORT_RUN, *changes, *data]))
    folder = tmp_path / "inference" / "aquarium_v1_amodal_train"
    records = json.loads((folder / "video_predictions.json").read_text())
    kinds = ("segmentations", "amodal_segmentations")
    found = {kind for kind in kinds for record in records if kind in record}
    wanted = kinds[1] if name in _AMODAL_BASELINES else kinds[0]
    assert found == {wanted}
