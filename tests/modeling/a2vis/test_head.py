"""The recurrent head against vectors of an independent implementation."""

from pathlib import Path

import pytest
import torch

from amodal2.layers import allow_all_where_none
from amodal2.modeling.a2vis.head import A2VISHead
from amodal2.modeling.a2vis.prototypes import PrototypeUpdate
from amodal2.modeling.a2vis.samh import SAMH
from tests.conftest import golden_files


def build_head(config: dict) -> A2VISHead:
    dim, heads = config["hidden_dim"], config["nheads"]
    samh = None
    if config["samh_enabled"]:
        samh = SAMH(
            dim,
            heads,
            num_layers=config["samh_num_layers"],
            num_convs=config["samh_num_convs"],
            norm=config["samh_norm"],
            use_vspm=config["use_vspm"],
            use_aspm=config["use_aspm"],
            pos_enc=config["samh_pos_enc"],
        )
    return A2VISHead(
        dim=dim,
        num_slots=config["num_slots"],
        num_classes=config["num_classes"],
        update=PrototypeUpdate(
            dim, heads, softmax_axis=config["update_softmax_axis"], norm=config["update_norm"]
        ),
        samh=samh,
        init=config["update_init"],
        carry=config["carry"],
    ).eval()


def first_seen_rule(visible: torch.Tensor, amodal: torch.Tensor, min_px: int) -> torch.Tensor:
    seen = (visible.flatten(3).sum(-1) >= min_px).cumsum(2) > 0
    return amodal & seen[..., None, None]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


@pytest.mark.parametrize("path", golden_files("a2vis_*.pt"))
def test_head_golden_clips_match_the_reference(path: Path) -> None:
    golden = torch.load(path, weights_only=True)
    assert set(golden["outputs"]) == set(golden["config"]["cases"])
    for case, changes in golden["config"]["cases"].items():
        config = golden["config"] | changes
        head = build_head(config)
        state = {k.removeprefix("a2vis."): v for k, v in golden["state_dict"].items()}
        if head.samh is None:
            state = {k: v for k, v in state.items() if not k.startswith("samh.")}
        head.load_state_dict(state, strict=True)
        expected = golden["outputs"][case]
        prototypes, visible, amodal = None, [], []
        rows = zip(
            golden["inputs"]["clip_prototypes"],
            golden["inputs"]["frame_features"],
            expected["clips"],
            strict=True,
        )
        for clip_prototypes, features, clip in rows:
            with torch.no_grad():
                result = head(prototypes, clip_prototypes, features)
            prototypes = result.carried
            close(result.visible_logits, clip["visible_logits"])
            assert len(result.amodal_logits) == len(clip["amodal_logits"])
            for ours, theirs in zip(result.amodal_logits, clip["amodal_logits"], strict=True):
                close(ours, theirs)
            for ours, theirs in zip(result.priors, clip["allow"], strict=True):
                assert torch.equal(ours, theirs)
            close(result.updated, clip["pG_update"])
            close(result.carried, clip["pG_carry"])
            visible.append(result.visible_logits > 0)
            if result.amodal_logits:
                amodal.append(result.amodal_logits[-1] > 0)
        close(head.classify(prototypes), expected["class_logits"])
        seen = torch.cat(visible, dim=2)
        assert torch.equal(seen, expected["visible_masks"])
        if not amodal:
            assert expected["amodal_masks"] is None
            continue
        whole = first_seen_rule(seen, torch.cat(amodal, dim=2), config["min_visible_px"])
        assert torch.equal(whole, expected["amodal_masks"])


def small_head(**changes) -> A2VISHead:
    config = {
        "hidden_dim": 32,
        "nheads": 4,
        "num_slots": 5,
        "num_classes": 3,
        "samh_enabled": True,
        "samh_num_layers": 2,
        "samh_num_convs": 4,
        "samh_norm": "",
        "use_vspm": True,
        "use_aspm": True,
        "samh_pos_enc": True,
        "update_softmax_axis": "local",
        "update_norm": True,
        "update_init": "learned",
        "carry": "samh",
    }
    return build_head(config | changes)


@pytest.mark.parametrize("init", ["learned", "first_clip", "zeros"])
@pytest.mark.parametrize("axis", ["local", "global", "none"])
def test_head_readings_give_finite_masks_over_clips(init: str, axis: str) -> None:
    head = small_head(update_init=init, update_softmax_axis=axis)
    prototypes = None
    for _ in range(4):
        result = head(prototypes, torch.randn(2, 5, 32), torch.randn(2, 3, 32, 6, 7))
        prototypes = result.carried
    assert torch.isfinite(result.amodal_logits[-1]).all()
    if init == "zeros":
        assert (prototypes[:, 0] - prototypes[:, 1]).abs().max() > 1e-3


def test_head_carry_update_without_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"UPDATE\.NORM True with CARRY update"):
        small_head(carry="update", update_norm=False)


def test_head_padding_is_no_key() -> None:
    head = small_head()
    prototypes, features = torch.randn(1, 5, 32), torch.randn(1, 3, 32, 6, 8)
    valid = torch.ones(1, 6, 8, dtype=torch.bool)
    valid[..., 6:] = False
    result = head(None, prototypes, features, valid)
    keys = head.samh._allow(result.priors[0], valid.flatten(1)).unflatten(-1, (6, 8))
    assert not keys[..., 6:].any()
    assert keys.flatten(2).any(-1).all()


def test_allow_all_where_none_opens_empty_rows_only() -> None:
    allow = torch.tensor([[False, False], [True, False]])
    assert allow_all_where_none(allow).tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    ("key", "value"), [("num_convs", 3), ("num_layers", 0), ("norm", "BN"), ("attn_stride", 5)]
)
def test_samh_senseless_setting_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key.upper()):
        SAMH(32, 4, **{key: value})


@pytest.mark.parametrize("stride", [8, 16])
def test_samh_coarser_keys_keep_the_mask_size(stride: int) -> None:
    samh = SAMH(32, 4, attn_stride=stride, norm="GN", feat_pos=True, share_layers=True, ffn_dim=16)
    out = samh(
        torch.randn(1, 5, 32),
        torch.randn(1, 2, 32, 10, 13),
        torch.randn(1, 5, 2, 10, 13),
        torch.randn(1, 5, 32),
        torch.ones(1, 10, 13, dtype=torch.bool),
    )
    assert out.amodal_logits[-1].shape == (1, 5, 2, 10, 13)
    assert len(samh.layers) == 1
