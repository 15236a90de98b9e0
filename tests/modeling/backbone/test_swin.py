"""Swin backbones against a plain implementation of the official one."""

import pytest
import timm
import torch
from detectron2.layers import ShapeSpec

from amodal2.config import get_cfg
from amodal2.engine.optimizer import parameter_groups
from amodal2.modeling.backbone import SwinBackbone, build_swin_backbone
from tests.modeling.backbone.swin_oracle import pyramid

_HEADS = (1, 2, 2, 4)


def tiny(window=3, drop_path_rate=0.0):
    """A Swin with every parameter drawn at random, in double precision."""
    model = SwinBackbone(
        embed_dim=8,
        depths=(2, 2, 2, 2),
        num_heads=_HEADS,
        window_size=window,
        drop_path_rate=drop_path_rate,
    ).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


# 4 does not divide 41 and 50; windows of 3 and 4 divide neither the finest level nor the others,
# and are larger than the coarsest ones of 33x34.
@pytest.mark.parametrize(("size", "window"), [((41, 50), 3), ((33, 34), 4), ((24, 48), 3)])
@torch.no_grad()
def test_swin_backbone_any_size_equals_the_plain_implementation(size, window) -> None:
    model = tiny(window)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    levels = model(images)
    expected = pyramid(images[1], dict(model.named_parameters()), _HEADS, window)
    for (name, level), theirs in zip(levels.items(), expected, strict=True):
        torch.testing.assert_close(level[1], theirs, atol=1e-10, rtol=1e-10, msg=name)


def test_swin_backbone_output_shape_is_what_comes_out() -> None:
    model = tiny().float()
    shapes = model.output_shape()
    for name, level in model(torch.randn(1, 3, 64, 96)).items():
        stride = shapes[name].stride
        assert level.shape == (1, shapes[name].channels, 64 // stride, 96 // stride)
        assert level.is_contiguous()


def test_swin_backbone_drop_path_rises_linearly_over_all_blocks() -> None:
    model = tiny(drop_path_rate=0.7)
    blocks = [block for stage in model.layers for block in stage.blocks]
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.1 * i for i in range(8)])
    model.train()
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    assert not torch.equal(model(image)["res5"], model(image)["res5"])


def test_swin_backbone_position_tables_do_not_decay() -> None:
    cfg = get_cfg()
    model = torch.nn.ModuleDict({"backbone": tiny()})
    groups = parameter_groups(cfg, model)
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    tables = [p for n, p in model.named_parameters() if n.endswith("bias_table")]
    assert len(tables) == 8
    assert all(decays[id(p)] == 0 for p in tables)
    assert decays[id(model["backbone"].layers[0].blocks[0].attn.qkv.weight)] > 0


@pytest.mark.parametrize(
    ("name", "dim", "depth", "window"),
    [
        ("swin_tiny_patch4_window7_224", 96, 6, 7),
        ("swin_large_patch4_window12_384", 192, 18, 12),
    ],
)
def test_swin_backbone_published_sizes_have_the_parameters_of_timm(
    name, dim, depth, window
) -> None:
    cfg = get_cfg()
    cfg.MODEL.SWIN.EMBED_DIM = dim
    cfg.MODEL.SWIN.DEPTHS = (2, 2, depth, 2)
    cfg.MODEL.SWIN.NUM_HEADS = tuple(dim // 32 * 2**i for i in range(4))
    cfg.MODEL.SWIN.WINDOW_SIZE = window
    with torch.device("meta"):
        ours = build_swin_backbone(cfg, ShapeSpec(channels=3))
        theirs = timm.create_model(name, num_classes=0)
    count = sum(p.numel() for p in theirs.parameters())
    norms = 2 * (dim + 2 * dim + 4 * dim)  # timm has that of the last level alone
    assert sum(p.numel() for p in ours.parameters()) == count + norms


@pytest.mark.parametrize(
    ("depths", "heads", "message"),
    [
        ((2, 2, 2), (1, 2, 2), r"expected 4 MODEL.SWIN.DEPTHS and NUM_HEADS, got \(2, 2, 2\)"),
        ((2, 2, 2, 2), (1, 2, 3, 4), r"NUM_HEADS that divide \[8, 16, 32, 64\], got \(1, 2, 3, 4"),
    ],
)
def test_swin_backbone_wrong_settings_are_named(depths, heads, message) -> None:
    with pytest.raises(ValueError, match=message):
        SwinBackbone(embed_dim=8, depths=depths, num_heads=heads, window_size=3)
