"""timm models as backbones."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d

from amodal2.modeling.backbone import TimmBackbone


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])
def test_timm_backbone_gives_the_four_levels(name: str) -> None:
    indices = (1, 2, 3, 4)
    backbone = TimmBackbone(name, out_indices=indices).eval()
    shapes = backbone.output_shape()
    outputs = backbone(torch.randn(1, 3, 64, 96))
    assert list(outputs) == ["res2", "res3", "res4", "res5"]
    for level, x in outputs.items():
        stride = shapes[level].stride
        assert x.shape == (1, shapes[level].channels, 64 // stride, 96 // stride)
    assert [shapes[level].stride for level in outputs] == [4, 8, 16, 32]


def test_timm_backbone_freeze_bn_leaves_no_batch_norm() -> None:
    modules = list(TimmBackbone("resnet10t", freeze_bn=True).modules())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in modules)
    assert any(isinstance(m, FrozenBatchNorm2d) for m in modules)


def test_timm_backbone_wrong_indices_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected 4 indices .* got \(1, 2\)"):
        TimmBackbone("resnet10t", out_indices=(1, 2))
