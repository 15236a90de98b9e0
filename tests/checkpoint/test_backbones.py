"""Names of published backbones."""

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer

from amodal2.checkpoint import AmodalCheckpointer, translate_official
from amodal2.checkpoint.backbones import backbone_names
from amodal2.modeling.backbone import SwinBackbone


@torch.no_grad()
def test_backbone_names_timm_swin_computes_the_same_under_ours(tmp_path) -> None:
    """timm counts a patch merging to the next stage; at whole windows both pad nothing."""
    sizes = {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4), "window_size": 3}
    theirs = SwinTransformer(img_size=96, always_partition=True, num_classes=5, **sizes).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save(theirs.state_dict(), tmp_path / "swin.pth")
    model = torch.nn.ModuleDict({"backbone": SwinBackbone(**sizes)}).eval()
    checkpointer = AmodalCheckpointer(model)
    checkpointer.load(str(tmp_path / "swin.pth"))
    report = checkpointer.last_report
    assert (
        report.renamed["layers.3.downsample.norm.bias"] == "backbone.layers.2.downsample.norm.bias"
    )
    assert report.unexpected == report.mismatched == []
    assert sorted(report.missing) == sorted(
        f"backbone.norm{i}.{part}" for i in range(4) for part in ("weight", "bias")
    )
    assert "layers.3.downsample.norm.bias -> backbone.layers.2.downsample.norm.bias" in str(report)
    assert "layers.*.blocks.*.norm1.bias -> backbone.layers.*.blocks.*.norm1.bias (8x)" in str(
        report
    )
    model.backbone.norm3.load_state_dict(theirs.norm.state_dict())
    images = torch.randn(2, 3, 96, 96)
    expected = theirs.forward_features(images).permute(0, 3, 1, 2)
    torch.testing.assert_close(model.backbone(images)["res5"], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prefix", ["backbone.", "detector.backbone.bottom_up."])
def test_backbone_names_take_the_place_of_the_backbone_from_the_model(prefix) -> None:
    model_names = [f"{prefix}stem.conv1.weight", "other.stem"]
    found = backbone_names({"layer1.0.conv1.weight", "bn1.bias", "layer4.2.bn3.bias"}, model_names)
    assert found.renamed == {
        "layer1.0.conv1.weight": f"{prefix}res2.0.conv1.weight",
        "bn1.bias": f"{prefix}stem.conv1.norm.bias",
        "layer4.2.bn3.bias": f"{prefix}res5.2.conv3.norm.bias",
    }


def test_backbone_names_counters_are_kept_for_trainable_norms() -> None:
    names = ["layer1.0.conv1.weight", "bn1.num_batches_tracked"]
    counter = "backbone.stem.conv1.norm.num_batches_tracked"
    assert backbone_names(names, [counter]).renamed[names[1]] == counter
    assert backbone_names(names, []).dropped == {names[1]: "counts batches"}


@pytest.mark.parametrize(
    "name",
    [
        "backbone.res2.0.conv1.weight",
        "layers.0.blocks.0.attn.logit_scale",  # Swin V2
        "sem_seg_head.predictor.query_feat.weight",
    ],
)
def test_backbone_names_other_files_are_none_of_them(name) -> None:
    weights = {name: torch.zeros(1), "patch_embed.proj.weight": torch.zeros(96, 3, 4, 4)}
    found = translate_official(weights)
    assert found.recognised == ""
    assert list(found.state.items()) == list(weights.items())
