"""Files with the names and shapes of the official ones, written from the published key tables.

The tensors have one element in memory, expanded to their shapes.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
SWIN_L = {"dim": 192, "depths": (2, 2, 18, 2), "window": 12}
SWIN_T = {"dim": 96, "depths": (2, 2, 6, 2), "window": 7}
RESNET_CHANNELS = (256, 512, 1024, 2048)
BUFFERS = ("running_mean", "running_var", "empty_weight", "relative_position_index", "attn_mask")


def tensors(shapes: Shapes) -> dict[str, Tensor]:
    whole = torch.zeros((), dtype=torch.int64)
    floats = torch.zeros(())
    return {
        name: (whole if name.endswith("_index") else floats).expand(shape)
        for name, shape in shapes.items()
    }


def count_parameters(shapes: Shapes) -> int:
    """Learnable numbers; batch normalisation is frozen, so its weights are buffers."""
    frozen = {n.rpartition(".")[0] for n in shapes if n.endswith("running_mean")}
    return sum(
        torch.Size(shape).numel()
        for name, shape in shapes.items()
        if not name.endswith(BUFFERS) and name.rpartition(".")[0] not in frozen
    )


def pair(name: str, *weight: int) -> Shapes:
    """Weight and bias of a layer."""
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def attention(name: str) -> Shapes:
    projection = {f"{name}.in_proj_weight": (768, 256), f"{name}.in_proj_bias": (768,)}
    return projection | pair(f"{name}.out_proj", 256, 256)


def feed_forward(name: str, hidden: int) -> Shapes:
    return pair(f"{name}.linear1", hidden, 256) | pair(f"{name}.linear2", 256, hidden)


def resnet(depth: int) -> Shapes:
    """Names after the prefix ``backbone.``, as Detectron2 has them."""
    shapes: Shapes = conv_norm("stem.conv1", 64, 3, 7)
    before = 64
    for stage, (blocks, out) in enumerate(zip(BLOCKS[depth], RESNET_CHANNELS, strict=True), 2):
        for b in range(blocks):
            name, mid = f"res{stage}.{b}", out // 4
            if b == 0:
                shapes |= conv_norm(f"{name}.shortcut", out, before, 1)
            shapes |= conv_norm(f"{name}.conv1", mid, before, 1)
            shapes |= conv_norm(f"{name}.conv2", mid, mid, 3)
            shapes |= conv_norm(f"{name}.conv3", out, mid, 1)
            before = out
    return shapes


def conv_norm(name: str, out: int, into: int, size: int) -> Shapes:
    norm = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.weight": (out, into, size, size)} | {f"{name}.norm.{k}": (out,) for k in norm}


def torchvision_resnet(depth: int) -> Shapes:
    shapes: Shapes = {}
    for name, shape in resnet(depth).items():
        for new, old in (
            ("stem.", ""),
            (".shortcut.norm.", ".downsample.1."),
            (".shortcut.", ".downsample.0."),
            ("conv1.norm.", "bn1."),
            ("conv2.norm.", "bn2."),
            ("conv3.norm.", "bn3."),
            *((f"res{i}.", f"layer{i - 1}.") for i in (2, 3, 4, 5)),
        ):
            name = name.replace(new, old)
        shapes[name] = shape
        if name.endswith("running_var"):
            shapes[name.replace("running_var", "num_batches_tracked")] = ()
    return shapes | pair("fc", 1000, 2048)


def swin(dim: int, depths: tuple[int, ...], window: int) -> Shapes:
    """Names after the prefix ``backbone.``, without the norms of the levels."""
    shapes = pair("patch_embed.proj", dim, 3, 4, 4) | pair("patch_embed.norm", dim)
    for i, depth in enumerate(depths):
        c, heads, area = dim * 2**i, dim // 32 * 2**i, window * window
        for j in range(depth):
            name = f"layers.{i}.blocks.{j}"
            shapes |= pair(f"{name}.norm1", c)
            table = f"{name}.attn.relative_position_bias_table"
            shapes[table] = ((2 * window - 1) ** 2, heads)
            shapes[f"{name}.attn.relative_position_index"] = (area, area)
            shapes |= pair(f"{name}.attn.qkv", 3 * c, c) | pair(f"{name}.attn.proj", c, c)
            shapes |= pair(f"{name}.norm2", c)
            shapes |= pair(f"{name}.mlp.fc1", 4 * c, c) | pair(f"{name}.mlp.fc2", c, 4 * c)
        if i < 3:
            shapes[f"layers.{i}.downsample.reduction.weight"] = (2 * c, 4 * c)
            shapes |= pair(f"layers.{i}.downsample.norm", 4 * c)
    return shapes


def swin_classifier(dim: int, depths: tuple[int, ...], window: int) -> Shapes:
    """As Microsoft publishes it for ImageNet-22k."""
    shapes = swin(dim, depths, window)
    for i in range(3):
        shapes[f"layers.{i}.blocks.1.attn_mask"] = (64 // 4**i, window**2, window**2)
    return shapes | pair("norm", dim * 8) | pair("head", 21841, dim * 8)


def mask2former(backbone: Shapes, *, classes: int, queries: int = 100) -> Shapes:
    """The whole instance model; MinVIS has the same names."""
    shapes = {f"backbone.{name}": shape for name, shape in backbone.items()}
    if "backbone.patch_embed.proj.weight" in shapes:
        dim = shapes["backbone.patch_embed.proj.weight"][0]
        channels = tuple(dim * 2**i for i in range(4))
        for i, c in enumerate(channels):
            shapes |= pair(f"backbone.norm{i}", c)
    else:
        channels = RESNET_CHANNELS
    decoder, predictor = "sem_seg_head.pixel_decoder", "sem_seg_head.predictor"
    for i, c in enumerate(reversed(channels[1:])):
        shapes |= pair(f"{decoder}.input_proj.{i}.0", 256, c, 1, 1)
        shapes |= pair(f"{decoder}.input_proj.{i}.1", 256)
    shapes[f"{decoder}.transformer.level_embed"] = (3, 256)
    for i in range(6):
        layer = f"{decoder}.transformer.encoder.layers.{i}"
        shapes |= pair(f"{layer}.self_attn.sampling_offsets", 192, 256)
        shapes |= pair(f"{layer}.self_attn.attention_weights", 96, 256)
        shapes |= pair(f"{layer}.self_attn.value_proj", 256, 256)
        shapes |= pair(f"{layer}.self_attn.output_proj", 256, 256)
        shapes |= pair(f"{layer}.norm1", 256) | pair(f"{layer}.norm2", 256)
        shapes |= feed_forward(layer, 1024)
    shapes |= pair(f"{decoder}.mask_features", 256, 256, 1, 1)
    shapes[f"{decoder}.adapter_1.weight"] = (256, channels[0], 1, 1)
    shapes[f"{decoder}.layer_1.weight"] = (256, 256, 3, 3)
    shapes |= pair(f"{decoder}.adapter_1.norm", 256) | pair(f"{decoder}.layer_1.norm", 256)
    for i in range(9):
        for kind, inner in (("self_attention", "self_attn"), ("cross_attention", "multihead_attn")):
            layer = f"{predictor}.transformer_{kind}_layers.{i}"
            shapes |= attention(f"{layer}.{inner}") | pair(f"{layer}.norm", 256)
        layer = f"{predictor}.transformer_ffn_layers.{i}"
        shapes |= feed_forward(layer, 2048) | pair(f"{layer}.norm", 256)
    shapes |= pair(f"{predictor}.decoder_norm", 256)
    for name, rows in (("query_feat", queries), ("query_embed", queries), ("level_embed", 3)):
        shapes[f"{predictor}.{name}.weight"] = (rows, 256)
    shapes |= pair(f"{predictor}.class_embed", classes + 1, 256)
    for i in range(3):
        shapes |= pair(f"{predictor}.mask_embed.layers.{i}", 256, 256)
    return shapes | {"criterion.empty_weight": (classes + 1,)}


def vita(backbone: Shapes, *, classes: int, queries: int = 100, genvis: bool = False) -> Shapes:
    shapes = mask2former(backbone, classes=classes, queries=queries)
    module: Shapes = pair("vita_mask_features", 256, 256, 1, 1) | pair("decoder_norm", 256)
    for i in range(3):
        for kind, inner in (("self_attention", "self_attn"), ("cross_attention", "multihead_attn")):
            layer = f"transformer_{kind}_layers.{i}"
            module |= attention(f"{layer}.{inner}") | pair(f"{layer}.norm", 256)
        layer = f"transformer_ffn_layers.{i}"
        module |= feed_forward(layer, 2048) | pair(f"{layer}.norm", 256)
        module |= pair(f"mask_embed.layers.{i}", 256, 256)
    for i in range(6):
        module |= attention(f"enc_self_attn.{i}.self_attn") | pair(f"enc_self_attn.{i}.norm", 256)
        module |= feed_forward(f"enc_ffn.{i}", 2048) | pair(f"enc_ffn.{i}.norm", 256)
    for name, rows in (("query_feat", 100), ("query_embed", 100), ("fq_pos", queries)):
        module[f"{name}.weight"] = (rows, 256)
    linears = ["input_proj_dec", "sim_embed_frame", "sim_embed_clip"]
    if genvis:
        linears += [f"pre_{what}_embed_{part}" for what in ("memory", "query") for part in "kv"]
    for name in linears:
        module |= pair(name, 256, 256)
    module |= pair("class_embed", classes + 1, 256)
    shapes |= {f"vita_module.{name}": shape for name, shape in module.items()}
    criterion = "genvis_criterion" if genvis else "vita_criterion"
    return shapes | {f"{criterion}.empty_weight": (classes + 1,)}


def old_layout(shapes: Shapes) -> Shapes:
    """Mask2Former's names before its head was split."""
    return {
        name.replace("pixel_decoder.", "").replace(".query_feat.", ".static_query."): shape
        for name, shape in shapes.items()
    }


def save_pkl(path: Path, weights: dict[str, Any], **extra: Any) -> str:
    path.write_bytes(pickle.dumps({"model": weights, **extra}))
    return str(path)


def save_pth(path: Path, weights: dict[str, Any]) -> str:
    """As Detectron2's training loop leaves it."""
    training = {"optimizer": {"state": {}, "param_groups": []}, "iteration": 139999}
    torch.save({"model": weights, **training}, path)
    return str(path)
