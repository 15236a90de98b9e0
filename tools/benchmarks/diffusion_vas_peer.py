"""Diffusion-VAS in the calls of the official pipeline, to compare times and results with.

The official code is not copied; this is the same work in the same calls of diffusers and
transformers, described in shared/reference/diffusion_vas.md, 1.1: frame by frame through image
encoder and VAE, both halves of the guidance as one batch with full cross attention, one sample at a
time.

Dimensions: T frames, H W image, h w latents.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    _resize_with_antialiasing,
)
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from amodal2.modeling.diffusion_vas.temporal_conv import TemporalConv3d

CALLS = (
    "diffusers.pipelines.stable_video_diffusion: _resize_with_antialiasing, decode_latents",
    "transformers.CLIPImageProcessor, transformers.CLIPVisionModelWithProjection, per frame",
    "diffusers.image_processor.VaeImageProcessor.preprocess, per frame",
    "diffusers.AutoencoderKLTemporalDecoder.encode, per frame and condition",
    "diffusers.EulerDiscreteScheduler: set_timesteps, scale_model_input, step",
    "diffusers.models.attention_processor.AttnProcessor2_0",
)
"""What the peer is made of."""


@torch.no_grad()
def sample_video(
    pipeline: Any, conditions: list[Tensor], generator: torch.Generator, settings: Any
) -> Tensor:
    """Generate one sample.

    Args:
        pipeline: our pipeline, for its five parts; they run with the stock attention processors and
            convolutions, and ours are put back.
        conditions (list[Tensor[T, 3, H, W]]): two videos in [-1, 1].
        generator: drawn from in the official order.
        settings: ``SamplerSettings``.

    Returns:
        Tensor[1, T, 3, H, W]: in [0, 1].
    """
    processors = pipeline.unet.attn_processors
    pipeline.unet.set_attn_processor(AttnProcessor2_0())
    networks = (pipeline.unet, pipeline.vae)
    ours = [m for network in networks for m in network.modules() if type(m) is TemporalConv3d]
    for layer in ours:
        layer.__class__ = torch.nn.Conv3d
    try:
        return _sample(pipeline, conditions, generator, settings)
    finally:
        pipeline.unet.set_attn_processor(dict(processors))
        for layer in ours:
            layer.__class__ = TemporalConv3d


def _sample(
    pipeline: Any, conditions: list[Tensor], generator: torch.Generator, settings: Any
) -> Tensor:
    frames, _, height, width = conditions[0].shape
    rows = []
    for frame in conditions[0]:
        embedding = _embed(pipeline, frame[None])
        rows.append(torch.cat([torch.zeros_like(embedding), embedding]))
    contexts = torch.cat(rows)
    ids = torch.tensor(
        [[settings.fps - 1, settings.motion_bucket_id, settings.noise_aug_strength]] * 2
    )
    codes = []
    for video in conditions:
        pixels = torch.stack([_preprocess(pipeline, frame[None]) for frame in video])
        noise = randn_tensor(pixels.shape, generator=generator, dtype=pixels.dtype)
        noisy = pixels + settings.noise_aug_strength * noise
        found = [pipeline.vae.encode(frame).latent_dist.mode() for frame in noisy]
        code = torch.cat(found)[None]
        codes.append(torch.cat([torch.zeros_like(code), code]))
    pipeline.scheduler.set_timesteps(settings.steps)
    size = (1, frames, 4, *pipeline.latent_size(height, width))
    latents = randn_tensor(size, generator=generator) * pipeline.scheduler.init_noise_sigma
    scale = torch.linspace(*settings.guidance, frames).reshape(1, frames, 1, 1, 1)
    for time in pipeline.scheduler.timesteps:
        doubled = pipeline.scheduler.scale_model_input(torch.cat([latents] * 2), time)
        stacked = torch.cat([doubled, *codes], dim=2)
        free, conditional = pipeline.unet(stacked, time, contexts, ids)[0].chunk(2)
        velocity = free + scale * (conditional - free)
        latents = pipeline.scheduler.step(velocity, time, latents).prev_sample
    decoded = pipeline.decode_latents(latents, frames, settings.decode_chunk)
    return (decoded / 2 + 0.5).clamp(0, 1).transpose(1, 2)


def _embed(pipeline: Any, frame: Tensor) -> Tensor:
    """Run the image encoder on one frame, [1, 3, H, W] to [1, 1, D]."""
    image = (_resize_with_antialiasing(frame, (224, 224)) + 1) / 2
    pixels = pipeline.feature_extractor(
        images=image,
        do_normalize=True,
        do_center_crop=False,
        do_resize=False,
        do_rescale=False,
        return_tensors="pt",
    ).pixel_values
    return pipeline.image_encoder(pixels).image_embeds[:, None]


def _preprocess(pipeline: Any, frame: Tensor) -> Tensor:
    """Apply diffusers' rule for values to one frame, [1, 3, H, W]."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Passing `image` as torch tensor", FutureWarning)
        return pipeline.video_processor.preprocess(frame, *frame.shape[2:])
