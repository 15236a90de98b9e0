"""AISFormer against the official head, and its sizes."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY

from amodal2.checkpoint import translate_official
from tests.conftest import golden_files
from tests.modeling.roi_heads.tiny import tiny_config


def build(name, channels, *changes):
    cfg = tiny_config(name, *changes)
    return ROI_MASK_HEAD_REGISTRY.get(name)(cfg, ShapeSpec(channels=channels))


def from_golden(golden, invisible_embed):
    config = golden["config"]
    keys = {
        "MODEL.AISFORMER.EMB_DIM": config["emb_dim"],
        "MODEL.AISFORMER.DIM_FEEDFORWARD": config["dim_feedforward"],
        "MODEL.AISFORMER.N_LAYERS": config["n_layers"],
        "MODEL.AISFORMER.N_HEADS": config["n_heads"],
        "MODEL.AISFORMER.INVISIBLE_EMBED": invisible_embed,
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": config["pooler_resolution"],
    }
    head = build("AISFormer", config["emb_dim"], *(x for pair in keys.items() for x in pair))
    place = "roi_heads.mask_head."
    official = {f"{place}mask_head_model.{k}": v for k, v in golden["state_dict"].items()}
    found = translate_official(official)
    assert set(found.dropped) == {f"{place}predictor_TR.{kind}" for kind in ("weight", "bias")}
    state = {name.removeprefix(place): value for name, value in found.state.items()}
    if not invisible_embed:
        state = {k: v for k, v in state.items() if not k.startswith("subtract_model.")}
    head.load_state_dict(state, strict=True)
    return head.eval()


@pytest.mark.parametrize("path", golden_files("aisformer_*.pt"))
@pytest.mark.parametrize("invisible_embed", [True, False])
def test_aisformer_matches_the_official_code(path, invisible_embed):
    golden = torch.load(path, weights_only=True)
    if invisible_embed and not golden["config"]["justify_loss"]:
        pytest.skip("the file has no fifth embedding")
    with torch.no_grad():
        logits = from_golden(golden, invisible_embed).layers(golden["inputs"]["roi_features"])
    for kind in ("visible", "occluder", "amodal", "invisible"):
        name = f"{kind}_logits"
        if kind == "invisible" and not invisible_embed and golden["config"]["justify_loss"]:
            name = "invisible_logits_justify_false"
        assert torch.allclose(logits[kind], golden["outputs"][name], atol=1e-4, rtol=0), kind


@pytest.mark.parametrize(
    ("name", "parameters"), [("AISFormer", 4_220_942 - 14), ("AISFormerDeep", 13_137_920)]
)
def test_aisformer_has_the_parameters_of_its_source(name, parameters):
    # The official head holds 14 more (7 classes) in predictor_TR, which nothing reads.
    keys = ["MODEL.AISFORMER.EMB_DIM", 256, "MODEL.AISFORMER.DIM_FEEDFORWARD", 2048]
    head = build(name, 256, *keys)
    assert sum(parameter.numel() for parameter in head.parameters()) == parameters


def test_aisformer_refuses_regions_larger_than_its_tables():
    with pytest.raises(ValueError, match="POOLER_RESOLUTION of at most 25, got 26"):
        build("AISFormer", 16, "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 26)


def test_aisformer_without_the_fifth_embedding_has_no_layers_for_it():
    plain = build("AISFormer", 16, "MODEL.AISFORMER.INVISIBLE_EMBED", False)
    assert not [name for name in plain.state_dict() if name.startswith("subtract_model")]
