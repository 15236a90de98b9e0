"""Names and numbers of parameters are those of the official models."""

import pytest
import torch
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the models
from amodal2.config import get_cfg
from tests.conftest import REPOSITORY


def build(name: str, *changes: object) -> torch.nn.Module:
    """Build a model of configs/baselines without memory for its weights."""
    cfg = get_cfg()
    cfg.merge_from_file(str(REPOSITORY / "configs" / "baselines" / f"{name}_r50_fishbowl.yaml"))
    cfg.merge_from_list(["MODEL.DEVICE", "meta", *changes])
    with torch.device("meta"):
        return build_model(cfg)


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("minvis", 80, 43_970_257),
        ("mask2former_vis", 80, 43_970_257),
        ("vita", 25, 57_127_348),
        ("genvis", 25, 57_390_516),
        ("genvis_amodal", 25, 57_390_516),
    ],
)
def test_reference_model_has_the_official_number_of_parameters(
    name: str, classes: int, expected: int
) -> None:
    model = build(name, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", classes)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_genvis_names_are_the_official_ones() -> None:
    names = set(build("genvis").state_dict())
    vita = set(build("vita").state_dict())
    parts = ("pre_memory_embed_k", "pre_memory_embed_v", "pre_query_embed_k", "pre_query_embed_v")
    extra = {f"vita_module.{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    assert names - vita == extra | {"genvis_criterion.empty_weight"}
    assert vita - names == {"vita_criterion.empty_weight"}
    assert "criterion.empty_weight" in names & vita
    roots = {name.partition(".")[0] for name in names | vita}
    assert roots == {
        "backbone",
        "sem_seg_head",
        "vita_module",
        "criterion",
        "vita_criterion",
        "genvis_criterion",
    }
