"""Every key is explained, every yaml file builds, and those of A2VIS fit one another."""

import inspect
import itertools
import re
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

import amodal2.config
import amodal2.data.datasets
import amodal2.modeling
from amodal2.config import (
    a2vis,
    baselines,
    common,
    diffusion_vas,
    get_cfg,
    mask_classification,
)

_ROOT = Path(__file__).resolve().parents[2]
_YAMLS = sorted((_ROOT / "configs").rglob("*.yaml"))
_WHOLE = [path for path in _YAMLS if not path.name.startswith("Base")]
_ASSIGNMENT = re.compile(r"^\s+[\w.]+\.[A-Z][A-Z0-9_]*\s*=\s*(?!CfgNode)\S")


@pytest.mark.parametrize(
    "module",
    [common, mask_classification, a2vis, baselines, diffusion_vas],
    ids=lambda m: m.__name__,
)
def test_config_every_key_has_a_comment(module: object) -> None:
    lines = inspect.getsource(module).splitlines()
    bare = [
        line.strip()
        for before, line in itertools.pairwise(lines)
        if _ASSIGNMENT.match(line) and not before.strip().startswith("#")
    ]
    assert bare == []


def test_config_add_functions_are_all_called() -> None:
    names = [
        n for n in amodal2.config.__all__ if n.startswith("add_") and n != "add_amodal2_config"
    ]
    source = inspect.getsource(amodal2.config.add_amodal2_config)
    assert all(f"{name}(cfg)" in source for name in names)


def load(path: Path) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    return cfg


@pytest.mark.parametrize("path", _WHOLE, ids=lambda p: str(p.relative_to(_ROOT)))
def test_config_yaml_merges_and_builds(path: Path) -> None:
    cfg = load(path)
    if cfg.MODEL.META_ARCHITECTURE == "DiffusionVAS":
        pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    assert model.device.type == "meta"
    known = set(DatasetCatalog.list())
    assert known.issuperset([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])


def test_config_every_base_has_a_config() -> None:
    used = set()
    for path in _YAMLS:
        bases = yaml.safe_load(path.read_text()).get("_BASE_", [])
        for base in [bases] if isinstance(bases, str) else bases:
            used.add((path.parent / base).resolve())
    assert {path for path in _YAMLS if path not in _WHOLE} <= used


@pytest.mark.parametrize("backbone", ["r50", "swinl"])
@pytest.mark.parametrize("dataset", ["fishbowl", "sailvos"])
def test_config_stages_of_a2vis_follow_one_another(backbone: str, dataset: str) -> None:
    folder = _ROOT / "configs" / "a2vis"
    first = load(folder / f"a2vis_{backbone}_coco_frame.yaml")
    second = load(folder / f"a2vis_{backbone}_{dataset}_frame.yaml")
    third = load(folder / f"a2vis_{backbone}_{dataset}.yaml")
    assert [c.MODEL.A2VIS.TRAIN_LEVEL for c in (first, second, third)] == [
        "frame",
        "frame",
        "video",
    ]
    assert [c.INPUT.AMODAL.CLIP_LEN for c in (first, second, third)] == [1, 1, 3]
    assert [c.SOLVER.BASE_LR for c in (first, second, third)] == [1e-4, 1e-4, 5e-5]
    assert first.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 80
    assert second.DATASETS.TRAIN == third.DATASETS.TRAIN
    assert Path(third.MODEL.WEIGHTS) == Path(second.OUTPUT_DIR) / "model_final.pth"
    for name in ("BACKBONE", "RESNETS", "SWIN", "MASK_FORMER", "VITA"):
        assert first.MODEL[name] == second.MODEL[name] == third.MODEL[name]
    queries, short = (200, 448) if backbone == "swinl" else (100, 360)
    assert third.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES == queries
    assert third.INPUT.MIN_SIZE_TEST == short


@pytest.mark.parametrize("backbone", ["r50", "swinl"])
def test_config_zero_shot_evaluates_what_was_trained_on_sailvos(backbone: str) -> None:
    folder = _ROOT / "configs" / "a2vis"
    trained = load(folder / f"a2vis_{backbone}_sailvos.yaml")
    zero_shot = load(folder / f"a2vis_{backbone}_ovis.yaml")
    assert Path(zero_shot.MODEL.WEIGHTS) == Path(trained.OUTPUT_DIR) / "model_final.pth"
    assert zero_shot.DATASETS.TRAIN == trained.DATASETS.TRAIN
    assert zero_shot.DATASETS.TEST == ("ovis_personcar_visible_train",)
    trained.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    for name in ("BACKBONE", "RESNETS", "SWIN", "SEM_SEG_HEAD", "MASK_FORMER", "VITA", "A2VIS"):
        assert zero_shot.MODEL[name] == trained.MODEL[name]


@pytest.mark.parametrize("path", _YAMLS, ids=lambda p: str(p.relative_to(_ROOT)))
def test_config_yaml_names_no_machine(path: Path) -> None:
    assert not re.search(r"/(home|root|tmp|mnt|data)/", path.read_text())
