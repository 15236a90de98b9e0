"""Attention against ``nn.MultiheadAttention``, and its own rules."""

import pytest
import torch
from torch import nn

from amodal2.layers import MLP, MultiheadAttention, sine_position_2d, sine_position_3d
from amodal2.ops import HAS_C


def pair(dim: int = 16, heads: int = 4) -> tuple[MultiheadAttention, nn.MultiheadAttention]:
    ours, theirs = (
        MultiheadAttention(dim, heads),
        nn.MultiheadAttention(dim, heads, batch_first=True),
    )
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_the_stock_module(masked: bool) -> None:
    ours, theirs = pair()
    query, key, value = torch.randn(2, 3, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    allow = (torch.rand(2, 3, 7) > 0.5) | torch.eye(3, 7, dtype=torch.bool) if masked else None
    mask = None if allow is None else ~allow.repeat_interleave(4, dim=0)
    expected, _ = theirs(query, key, value, attn_mask=mask)
    torch.testing.assert_close(ours(query, key, value, allow), expected, atol=1e-5, rtol=0)


def test_attention_row_without_keys_attends_everywhere() -> None:
    ours, _ = pair()
    query, key = torch.randn(1, 2, 16), torch.randn(1, 5, 16)
    allow = torch.zeros(1, 2, 5, dtype=torch.bool)
    allow[0, 0, 3] = True
    out = ours(query, key, key, allow)
    torch.testing.assert_close(out[:, 1], ours(query, key, key)[:, 1])
    assert not torch.allclose(out[:, 0], ours(query, key, key)[:, 0])


@pytest.mark.parametrize("axis", ["local", "global", "none"])
@pytest.mark.parametrize("null", [False, True])
def test_attention_mask_of_one_frame_serves_all_frames(axis: str, null: bool) -> None:
    ours = MultiheadAttention(16, 4, softmax_axis=axis)
    query, key, value = torch.randn(2, 5, 16), torch.randn(2, 21, 16), torch.randn(2, 21, 16)
    allow = torch.rand(2, 5, 7) > 0.5
    allow[0, 2] = False
    null_key = torch.randn(16) if null else None
    expected = ours(query, key, value, allow.repeat(1, 1, 3), null_key)
    torch.testing.assert_close(ours(query, key, value, allow, null_key), expected)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.5])
def test_attention_absorbed_projections_equal_plain_path(density: float) -> None:
    ours, _ = pair(64, 4)
    with torch.no_grad():
        ours.in_proj_bias.normal_()
    query, key, value = torch.randn(2, 9, 64), torch.randn(2, 600, 64), torch.randn(2, 600, 64)
    allow = torch.rand(2, 9, 300) < density
    allow[1, 3] = False
    ours, query, key, value = (x.double() for x in (ours, query, key, value))
    absorbed = ours.out_proj(ours._absorbed(query, key, value, allow).flatten(2))
    plain = ours(query, key, value, allow)
    torch.testing.assert_close(absorbed, plain, atol=1e-10, rtol=1e-10)


@pytest.mark.skipif(not HAS_C, reason="pays with the compiled kernel only")
def test_attention_absorbs_projections_only_for_sparse_inference() -> None:
    ours, _ = pair(64, 4)
    key = torch.randn(1, 600, 64)
    sparse, dense = (torch.rand(1, 100, 600) < share for share in (0.03, 0.9))
    assert not ours._absorbing_pays(key, sparse)
    with torch.no_grad():
        assert ours._absorbing_pays(key, sparse)
        assert not ours._absorbing_pays(key, dense)
        with torch.autocast("cpu", torch.bfloat16):
            assert not ours._absorbing_pays(key, sparse)


def test_attention_null_key_takes_part_of_the_weight() -> None:
    ours, _ = pair()
    query, key = torch.randn(1, 2, 16), torch.randn(1, 5, 16)
    strong = 1e3 * ours.in_proj_weight[:16].sum(1).sign()
    allow = torch.ones(1, 2, 5, dtype=torch.bool)
    plain = ours(query, key, key, allow)
    assert not torch.allclose(ours(query, key, key, allow, null_key=strong), plain)
    far = ours(query, key, key, allow, null_key=torch.zeros(16))
    assert torch.isfinite(far).all()


@pytest.mark.parametrize(("axis", "dim"), [("local", -1), ("global", -2)])
def test_attention_softmax_axis_sums_to_one(axis: str, dim: int) -> None:
    ours = MultiheadAttention(4, 1, softmax_axis=axis)
    with torch.no_grad():
        ours.in_proj_weight.copy_(torch.eye(4).repeat(3, 1))
        ours.out_proj.weight.copy_(torch.eye(4))
    query, key, value = torch.randn(1, 4, 4), torch.randn(1, 4, 4), torch.eye(4)[None]
    weights = ours(query, key, value)
    torch.testing.assert_close(weights.sum(dim), torch.ones(1, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((10, 4), "divisible by the heads"), ((16, 4, 0.0, "keys"), "softmax_axis local")],
)
def test_attention_wrong_argument_is_named(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiheadAttention(*arguments)


def test_sine_position_interleaves_rows_then_columns() -> None:
    code = sine_position_2d(3, 5, 8, torch.zeros(1))
    angle = 2 * torch.pi * torch.tensor([1.0, 2.0, 3.0]) / (3 + 1e-6)
    torch.testing.assert_close(code[0, :, 0], angle.sin())
    torch.testing.assert_close(code[1, :, 4], angle.cos())
    assert torch.equal(code[:4, 1, 0], code[:4, 1, 4])
    assert torch.equal(code[4:, 0, 2], code[4:, 2, 2])


def test_sine_position_3d_adds_time() -> None:
    code = sine_position_3d(2, 3, 5, 8, torch.zeros(1))
    flat = code - sine_position_2d(3, 5, 8, torch.zeros(1))
    assert torch.allclose(flat, flat[:, :, :1, :1].expand_as(flat), atol=1e-6)
    assert not torch.allclose(flat[0], flat[1])


def test_mlp_activates_the_output_only_on_request() -> None:
    x = torch.randn(64, 4)
    assert (MLP(4, 8, 3, 2)(x) < 0).any()
    assert (MLP(4, 8, 3, 2, activate_last=True)(x) >= 0).all()
