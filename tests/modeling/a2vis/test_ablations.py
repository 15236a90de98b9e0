"""Every ablation of the paper, and every reading that it leaves open, from the command line."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the model
from tests.conftest import REPOSITORY, load_script
from tests.modeling.tiny import TINY_KEYS, make_sample

_SAMH = "MODEL.A2VIS.SAMH."
_ABLATIONS = [
    f"{_SAMH}ENABLED False",
    f"{_SAMH}USE_VSPM False",
    f"{_SAMH}USE_ASPM False",
    f"{_SAMH}USE_VSPM False {_SAMH}USE_ASPM False",
    *(f"{_SAMH}NUM_LAYERS {n}" for n in (1, 2, 3, 5)),
    *(f"{_SAMH}NUM_CONVS {n}" for n in (2, 4, 6)),
    *(f"INPUT.AMODAL.CLIP_LEN {n}" for n in (1, 3, 5, 7)),
]
_READINGS = [
    *(f"MODEL.A2VIS.UPDATE.SOFTMAX_AXIS {axis}" for axis in ("local", "global", "none")),
    "MODEL.A2VIS.UPDATE.NORM False",
    *(f"MODEL.A2VIS.UPDATE.INIT {init}" for init in ("learned", "first_clip", "zeros")),
    "MODEL.A2VIS.UPDATE.NULL_TOKEN True",
    "MODEL.A2VIS.CARRY update",
    "MODEL.A2VIS.DETACH_EVERY 1",
    "MODEL.A2VIS.MATCH clip",
    "MODEL.A2VIS.AUX_CLIP_LOSS False",
    "MODEL.A2VIS.CLIP_CLASS_WEIGHT 0.0",
    "MODEL.A2VIS.FREEZE_DETECTOR False",
    "MODEL.A2VIS.FREEZE_DETECTOR False MODEL.A2VIS.DETECTOR_LOSS True",
    "MODEL.A2VIS.TRAIN_LEVEL frame INPUT.AMODAL.CLIP_LEN 1",
    f'{_SAMH}NORM ""',
    f"{_SAMH}POS_ENC False",
    *(f"{_SAMH}ATTN_STRIDE {n}" for n in (8, 16)),
    f"{_SAMH}FEAT_POS False",
    f"{_SAMH}RESIDUAL True",
    f"{_SAMH}RESIDUAL True {_SAMH}FEAT_POS False MODEL.A2VIS.START vita "
    "MODEL.A2VIS.UPDATE.INIT first_clip",
    f"{_SAMH}SHARE_LAYERS True",
    f"{_SAMH}FFN_DIM 16",
    "MODEL.A2VIS.LOSS.DICE_WEIGHT 0.0",
    "MODEL.A2VIS.LOSS.DEEP_SUPERVISION False",
    "TEST.AMODAL.UNION_VISIBLE True",
    "TEST.AMODAL.MIN_VISIBLE_PX 20",
]


def leaf_keys(node: CfgNode, prefix: str) -> set[str]:
    """Name every value of a config node."""
    return {
        key
        for name, value in node.items()
        for key in (
            leaf_keys(value, f"{prefix}{name}.")
            if isinstance(value, CfgNode)
            else {f"{prefix}{name}"}
        )
    }


def load(switches: str) -> CfgNode:
    """Read a command line of tools/train_net.py."""
    script = load_script("tools/train_net.py")
    config = str(REPOSITORY / "configs/a2vis/quick/a2vis_aquarium.yaml")
    keys = [*TINY_KEYS, "MODEL.TIMM.FREEZE_BN", True, "INPUT.AMODAL.NUM_CLIPS", 2]
    words = [str(word) for word in keys]
    return script.load_config(
        script.parse_arguments(["--config-file", config, *words, *switches.split()])
    )


@pytest.mark.parametrize("switches", _ABLATIONS + _READINGS)
def test_ablation_from_the_command_line_trains_and_predicts(switches: str) -> None:
    cfg = load(switches)
    model = build_model(cfg).train()
    losses = model([make_sample(0), make_sample(1)])
    assert all(torch.isfinite(x) for x in losses.values())
    sum(losses.values()).backward()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert [n for n, p in trained if p.grad is None] == []
    model.eval()
    state, frames = model.start(), make_sample(0)["frames"]
    for start in (0, 2):
        clip, state = model.forward_clip(frames[start : start + 2], state)
        assert torch.isfinite(clip.visible_logits).all()
        assert (clip.amodal_logits is not None) == cfg.MODEL.A2VIS.SAMH.ENABLED
    assert model.class_scores(state).shape == (5, 3)


def test_ablations_reach_every_key_of_the_model() -> None:
    keys = leaf_keys(load("").MODEL.A2VIS, "MODEL.A2VIS.")
    weights = {key for key in keys if key.endswith("_WEIGHT") and ".LOSS." in key}
    used = {word for line in _ABLATIONS + _READINGS for word in line.split()}
    assert keys - weights - used == set()
