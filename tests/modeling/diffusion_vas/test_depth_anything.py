"""Depth Anything V2: names, sizes and position codes of the official code."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")

import transformers

from amodal2.modeling.diffusion_vas import depth_weights
from amodal2.modeling.diffusion_vas.depth_anything import DepthAnything, network_size
from amodal2.modeling.diffusion_vas.depth_weights import network_arguments, translate_depth_weights
from amodal2.utils.errors import CheckpointError

BACKWARDS = (
    (r"^backbone\.embeddings\.cls_token$", "pretrained.cls_token"),
    (r"^backbone\.embeddings\.position_embeddings$", "pretrained.pos_embed"),
    (r"^backbone\.embeddings\.mask_token$", "pretrained.mask_token"),
    (r"^backbone\.embeddings\.patch_embeddings\.projection", "pretrained.patch_embed.proj"),
    (r"^backbone\.layernorm", "pretrained.norm"),
    (r"^backbone\.encoder\.layer", "pretrained.blocks"),
    (r"attention\.o_proj", "attn.proj"),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"^neck\.reassemble_stage\.layers\.(\d)\.projection", r"depth_head.projects.\1"),
    (r"^neck\.reassemble_stage\.layers\.(\d)\.resize", r"depth_head.resize_layers.\1"),
    (r"^head\.conv1", "depth_head.scratch.output_conv1"),
    (r"^head\.conv2", "depth_head.scratch.output_conv2.0"),
    (r"^head\.conv3", "depth_head.scratch.output_conv2.2"),
    (r"residual_layer([12])\.convolution([12])", r"resConfUnit\1.conv\2"),
    (r"(neck\.fusion_stage\.layers\.\d)\.projection", r"\1.out_conv"),
)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    backbone = transformers.Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        patch_size=14,
        image_size=70,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    return transformers.DepthAnythingForDepthEstimation(config)


def official_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name a network's weights as the official files do."""
    found = {}
    for name, value in state.items():
        for old, new in BACKWARDS:
            name = re.sub(old, new, name)
        name = re.sub(r"^neck\.convs\.(\d)", lambda m: f"@layer{int(m[1]) + 1}_rn", name)
        name = re.sub(
            r"^neck\.fusion_stage\.layers\.(\d)", lambda m: f"@refinenet{4 - int(m[1])}", name
        )
        found[name.replace("@", "depth_head.scratch.")] = value
    for layer in range(4):
        for kind in ("weight", "bias"):
            prefix = f"pretrained.blocks.{layer}.attention"
            parts = [found.pop(f"{prefix}.{part}_proj.{kind}") for part in "qkv"]
            found[f"pretrained.blocks.{layer}.attn.qkv.{kind}"] = torch.cat(parts)
    return found


def test_translate_depth_weights_brings_official_names_back(network: torch.nn.Module) -> None:
    state = network.state_dict()
    official = official_state(state)
    assert not official.keys() & state.keys()
    found = translate_depth_weights(official)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_depth_anything_official_file_loads(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(official_state(network.state_dict()), tmp_path / "tiny.pth")
    sizes = {32: (4, 2, [1, 2, 3, 4], [8, 8, 16, 16], 8)}
    monkeypatch.setattr(depth_weights, "SIZES", sizes)
    with pytest.raises(CheckpointError, match="hf download depth-anything"):
        DepthAnything.load(tmp_path / "tiny.pth")  # 70 pixels instead of 518


def test_depth_anything_folder_gives_the_network_s_depth(
    network: torch.nn.Module, tmp_path: Path
) -> None:
    network.save_pretrained(tmp_path / "hf")
    frame = np.random.default_rng(0).integers(0, 255, (74, 37, 3), dtype=np.uint8)
    depth = DepthAnything.load(tmp_path / "hf")(frame, 0)
    assert depth.shape == (74, 37)
    assert np.isfinite(depth).all()
    assert depth.max() > depth.min()


def test_positions_of_the_trained_size_are_the_table(network: torch.nn.Module) -> None:
    embeddings = DepthAnything(network).network.backbone.embeddings
    tokens = torch.zeros(1, 26, 32)
    assert torch.equal(
        embeddings.interpolate_pos_encoding(tokens, 70, 70), embeddings.position_embeddings
    )
    found = embeddings.interpolate_pos_encoding(tokens, 56, 98)[0]
    grid = embeddings.position_embeddings[0, 1:].reshape(5, 5, 32)
    # The first column lies where the official factor, not the ratio of sizes, puts it.
    centre = 0.5 * 5 / 7.1 - 0.5
    assert found.shape == (1 + 4 * 7, 32)
    expected = torch.nn.functional.grid_sample(
        grid.permute(2, 0, 1)[None],
        torch.tensor([[[[2 * (centre + 0.5) / 5 - 1, 2 * (0.5 * 5 / 4.1) / 5 - 1]]]]),
        mode="bicubic",
        padding_mode="border",
        align_corners=False,
    )
    torch.testing.assert_close(found[1], expected[0, :, 0, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [((256, 512), (518, 1036)), ((518, 518), (518, 518)), ((480, 854), (518, 924))],
)
def test_network_size_is_the_official_lower_bound(
    frame: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert network_size(*frame) == expected


def test_depth_anything_absent_or_other_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected weights of Depth Anything V2"):
        DepthAnything.load(tmp_path / "absent.pth")
    torch.save({"pretrained.cls_token": torch.zeros(1, 1, 7)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"of width \[384, 768, 1024\], got 7"):
        DepthAnything.load(tmp_path / "other.pth")


@pytest.mark.parametrize(("width", "layers"), [(384, 12), (768, 12), (1024, 24)])
def test_network_arguments_are_those_of_the_size(width: int, layers: int) -> None:
    found = network_arguments({"pretrained.cls_token": torch.zeros(1, 1, width)})
    assert found["backbone"]["num_hidden_layers"] == layers
