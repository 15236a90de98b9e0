"""timm models as backbones."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone

from amodal2.config import get_cfg
from amodal2.modeling.backbone import TimmBackbone

_SWIN = "swin_tiny_patch4_window7_224"


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("resnet10t", (1, 2, 3, 4)),
        ("mobilenetv3_small_050", (1, 2, 3, 4)),
        (_SWIN, (0, 1, 2, 3)),
    ],
)
def test_timm_backbone_gives_the_four_levels(name: str, indices: tuple[int, ...]) -> None:
    backbone = TimmBackbone(name, out_indices=indices).eval()
    shapes = backbone.output_shape()
    outputs = backbone(torch.randn(1, 3, 64, 96))
    assert list(outputs) == ["res2", "res3", "res4", "res5"]
    for level, x in outputs.items():
        stride = shapes[level].stride
        assert x.shape == (1, shapes[level].channels, 64 // stride, 96 // stride)
    assert [shapes[level].stride for level in outputs] == [4, 8, 16, 32]


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])
def test_timm_backbone_freeze_bn_equals_evaluation_mode(name: str) -> None:
    plain = TimmBackbone(name)
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias, std=0.1)
    frozen = TimmBackbone(name, freeze_bn=True)
    frozen.load_state_dict({k: v for k, v in plain.state_dict().items() if "num_batches" not in k})
    images = torch.randn(2, 3, 64, 96)
    expected, found = plain.eval()(images), frozen.train()(images)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in frozen.modules())
    for level, x in expected.items():
        torch.testing.assert_close(found[level], x, atol=1e-4, rtol=1e-4, msg=level)


def test_timm_backbone_freeze_bn_uses_the_layer_of_detectron2() -> None:
    modules = TimmBackbone("resnet10t", freeze_bn=True).modules()
    assert any(isinstance(m, FrozenBatchNorm2d) for m in modules)


@pytest.mark.parametrize(
    ("name", "indices", "strides"),
    [
        ("resnet10t", (0, 1, 2, 3), r"\[2, 4, 8, 16\]"),
        ("vit_tiny_patch16_224", (0, 1, 2, 3), r"\[16, 16, 16, 16\]"),
    ],
)
def test_timm_backbone_other_strides_are_named(
    name: str, indices: tuple[int, ...], strides: str
) -> None:
    with pytest.raises(ValueError, match=rf"strides \[4, 8, 16, 32\], got {strides} of"):
        TimmBackbone(name, out_indices=indices)


def test_timm_backbone_wrong_indices_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected 4 indices .* got \(1, 2\)"):
        TimmBackbone("resnet10t", out_indices=(1, 2))


def test_timm_fpn_backbone_gives_a_pyramid_of_one_width() -> None:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_timm_fpn_backbone"
    cfg.MODEL.TIMM.NAME = "test_resnet"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 24
    backbone = build_backbone(cfg).eval()
    outputs = backbone(torch.randn(1, 3, 64, 128))
    expected = {f"p{k}": (1, 24, 64 // 2**k, 128 // 2**k) for k in range(2, 7)}
    assert {name: tuple(x.shape) for name, x in outputs.items()} == expected
    strides = {name: shape.stride for name, shape in backbone.output_shape().items()}
    assert strides == {f"p{k}": 2**k for k in range(2, 7)}
