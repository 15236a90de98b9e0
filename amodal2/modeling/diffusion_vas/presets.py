"""Sizes of the models that are built without pre-trained weights."""

from __future__ import annotations

from typing import Any

Parts = dict[str, dict[str, Any]]
"""Constructor arguments of "unet", "vae" and "image_encoder"."""

_TWO_LEVELS: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "layers_per_block": 1,
}
_SMALLEST_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "block_out_channels": (32, 32),
    "layers_per_block": 1,
}

PRESETS: dict[str, Parts] = {
    # Stable Video Diffusion (img2vid-xt), the size of the official models.
    "svd": {
        "unet": {"sample_size": 96, "num_attention_heads": (5, 10, 20, 20)},
        "vae": {
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "sample_size": 768,
        },
        "image_encoder": {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "projection_dim": 1024,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "patch_size": 14,
            "hidden_act": "gelu",
        },
    },
    # Small enough to be trained from random weights on one machine; latents of stride 4.
    "small": {
        "unet": {
            **_TWO_LEVELS,
            "block_out_channels": (64, 128),
            "num_attention_heads": (4, 8),
            "cross_attention_dim": 64,
            "addition_time_embed_dim": 32,
            "projection_class_embeddings_input_dim": 96,
        },
        "vae": {
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "block_out_channels": (32, 32, 64),
            "layers_per_block": 1,
        },
        "image_encoder": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "projection_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 28,
        },
    },
    # For single masks in patches of 32 pixels, on a CPU; latents of stride 2, attention only in the
    # middle of the UNet.
    "mini": {
        "unet": {
            "down_block_types": ("DownBlockSpatioTemporal",) * 2,
            "up_block_types": ("UpBlockSpatioTemporal",) * 2,
            "layers_per_block": 1,
            "block_out_channels": (32, 64),
            "num_attention_heads": (2, 4),
            "cross_attention_dim": 32,
            "addition_time_embed_dim": 16,
            "projection_class_embeddings_input_dim": 48,
        },
        "vae": _SMALLEST_VAE,
        "image_encoder": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "projection_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 8,
            "image_size": 32,
        },
    },
    # For tests: less than a million parameters, latents of stride 2.
    "tiny": {
        "unet": {
            **_TWO_LEVELS,
            "block_out_channels": (32, 32),
            "num_attention_heads": (2, 4),
            "cross_attention_dim": 12,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 24,
        },
        "vae": _SMALLEST_VAE,
        "image_encoder": {
            "hidden_size": 16,
            "intermediate_size": 24,
            "projection_dim": 12,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 28,
        },
    },
}


def preset(name: str) -> Parts:
    """Look a size up.

    Args:
        name: one of ``PRESETS``.

    Returns:
        dict: constructor arguments of the three networks.

    Raises:
        ValueError: for another name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {sorted(PRESETS)}, got {name!r}")
    return PRESETS[name]
