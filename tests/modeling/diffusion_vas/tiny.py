"""Tiny models of every part of Diffusion-VAS, and the pipelines made of them."""

from typing import Any

CONFIG: dict[str, dict[str, Any]] = {
    "unet": {
        "down_block_types": ["CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"],
        "up_block_types": ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"],
        "block_out_channels": [32, 32],
        "layers_per_block": 1,
        "num_attention_heads": [2, 4],
        "cross_attention_dim": 12,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
    },
    "vae": {
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "block_out_channels": [32, 32],
        "layers_per_block": 1,
        "force_upcast": True,
    },
    "image_encoder": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "projection_dim": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 28,
    },
    "scheduler": {},
    "feature_extractor": {},
}


def build_parts(config: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Build the five parts with random weights."""
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    from amodal2.modeling.diffusion_vas.settings import SCHEDULER
    from amodal2.modeling.diffusion_vas.unet import DiffusionVASUNet

    encoder = CLIPVisionConfig(**config["image_encoder"])
    return {
        "unet": DiffusionVASUNet(**config["unet"]).eval(),
        "vae": AutoencoderKLTemporalDecoder(**config["vae"]).eval(),
        "image_encoder": CLIPVisionModelWithProjection(encoder).eval(),
        "scheduler": EulerDiscreteScheduler(**{**SCHEDULER, **config["scheduler"]}),
        "feature_extractor": CLIPImageProcessor(**config["feature_extractor"]),
    }


def build_pipeline(golden: dict[str, Any] | None = None, **unet: Any) -> Any:
    """Build a pipeline with the weights of a golden file, or with random ones."""
    from amodal2.modeling.diffusion_vas.pipeline import DiffusionVASPipeline

    config = CONFIG if golden is None else golden["config"]
    parts = build_parts({**config, "unet": {**config["unet"], **unet}})
    for name, state in (golden or {}).get("state_dict", {}).items():
        parts[name].load_state_dict({key: value.float() for key, value in state.items()})
    pipeline = DiffusionVASPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
