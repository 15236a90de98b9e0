"""Sampling of both stages: conditions in, video out (official pipeline, on diffusers' SVD).

Imports diffusers; see :func:`amodal2.modeling.diffusion_vas.libraries.require_libraries`.
Letters: K samples, T frames, H W image, h w latents, D size of an image embedding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
)
from diffusers.models.attention_processor import AttnProcessor2_0, SlicedAttnProcessor
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    _resize_with_antialiasing,
)
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from amodal2.modeling.diffusion_vas.conditions import guidance_contexts, sequence_contexts
from amodal2.modeling.diffusion_vas.settings import SamplerSettings
from amodal2.modeling.diffusion_vas.temporal_conv import use_temporal_convs
from amodal2.modeling.diffusion_vas.unet import DiffusionVASUNet, SingleTokenAttention, empty_slots

StepCallback = Callable[[int, int, Tensor], object]
"""Takes the number of finished steps, of all steps, and the latents [K, T, 4, h, w]."""


class DiffusionVASPipeline(StableVideoDiffusionPipeline):
    """Generates a video from condition videos, the first of which drives the image encoder too.

    Stage 1: modal masks and pseudo-depth to amodal masks; stage 2: modal RGB on white and amodal
    masks to amodal RGB. K samples of one clip share the embeddings of its frames and run together.
    """

    def __init__(
        self,
        vae: AutoencoderKLTemporalDecoder,
        image_encoder: CLIPVisionModelWithProjection,
        unet: DiffusionVASUNet,
        scheduler: EulerDiscreteScheduler,
        feature_extractor: CLIPImageProcessor,
    ) -> None:
        """Take the five parts of the stock pipeline, with our UNet."""
        for network in (unet, vae):
            use_temporal_convs(network)
        super().__init__(vae, image_encoder, unet, scheduler, feature_extractor)
        self.slice_attention(None)

    def slice_attention(self, size: int | None) -> None:
        """Run the spatial self attention of the UNet in slices, for memory.

        It is of use where the attention is not fused. Temporal attention stays whole: its matrices
        are small and there is one per pixel.

        Args:
            size: heads of single frames at once; None computes all together.
        """
        whole = SingleTokenAttention(AttnProcessor2_0())
        sliced = whole if size is None else SingleTokenAttention(SlicedAttnProcessor(size))
        self.unet.set_attn_processor(
            {
                name: whole if ".temporal_transformer_blocks." in name else sliced
                for name in self.unet.attn_processors
            }
        )

    @torch.no_grad()
    def __call__(
        self,
        conditions: Sequence[Tensor],
        generators: Sequence[torch.Generator],
        settings: SamplerSettings | None = None,
        on_step: StepCallback | None = None,
    ) -> Tensor:
        """Generate K samples.

        Every generator is drawn from in the official order: noise of each condition, then the first
        latents.

        Args:
            conditions (Sequence[Tensor[T, 3, H, W]]): float32 in [-1, 1], as many as the UNet has.
            generators: K of them, one per sample, on the CPU or the pipeline's device.
            settings: None takes the defaults.
            on_step: called after every denoising step.

        Returns:
            Tensor[K, T, 3, H, W]: float32 in [0, 1], on the pipeline's device.

        Raises:
            ValueError: if number, shapes or values of the conditions do not fit.
        """
        settings = settings or SamplerSettings()
        self.check_conditions(conditions)
        device = self._execution_device
        embeddings = self.embed_frames(conditions[0].to(device), settings.encode_chunk)
        contexts = guidance_contexts(embeddings, guided=settings.guided, layout=settings.layout)
        videos = [self.preprocess(video).to(device) for video in conditions]
        frames, _, height, width = videos[0].shape
        noisy, latents = [], []
        for generator in generators:
            noisy += [
                video
                + settings.noise_aug_strength
                * randn_tensor(video.shape, generator, device, video.dtype)
                for video in videos
            ]
            latents.append(
                randn_tensor(
                    (1, frames, self.unet.config.out_channels, *self.latent_size(height, width)),
                    generator,
                    device,
                    embeddings.dtype,
                )
            )
        codes = self.encode(torch.cat(noisy), settings.encode_chunk).to(embeddings.dtype)
        codes = codes.unflatten(0, (len(generators), len(videos), frames))
        codes = codes.transpose(1, 2).flatten(2, 3)  # [K, T, 4 * conditions, h, w]
        found = self.denoise(torch.cat(latents), codes, contexts, settings, on_step)
        video = self.decode(found, settings.decode_chunk)
        self.maybe_free_model_hooks()
        return video

    @torch.no_grad()
    def regress(
        self, conditions: Sequence[Tensor], settings: SamplerSettings | None = None
    ) -> Tensor:
        """Predict a video in one step, without noise (the paper's 3D-UNet baseline).

        Args:
            conditions (Sequence[Tensor[T, 3, H, W]]): see :meth:`__call__`.
            settings: frame rate, motion and chunks are used.

        Returns:
            Tensor[1, T, 3, H, W]: float32 in [0, 1], on the pipeline's device.

        Raises:
            ValueError: see :meth:`__call__`.
        """
        settings = settings or SamplerSettings()
        self.check_conditions(conditions)
        device = self._execution_device
        embeddings = self.embed_frames(conditions[0].to(device), settings.encode_chunk)
        videos = torch.cat([self.preprocess(video).to(device) for video in conditions])
        codes = self.encode(videos, settings.encode_chunk).to(embeddings.dtype)
        codes = codes.unflatten(0, (1, len(conditions), -1)).transpose(1, 2).flatten(2, 3)
        ids = codes.new_tensor([[settings.fps, settings.motion_bucket_id, 0.0]])
        found = self.unet(empty_slots(codes), 0.0, sequence_contexts(embeddings), ids)[0]
        video = self.decode(found, settings.decode_chunk)
        self.maybe_free_model_hooks()
        return video

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Return h and w of an image of H x W."""
        return height // self.vae_scale_factor, width // self.vae_scale_factor

    def check_conditions(self, conditions: Sequence[Tensor]) -> None:
        """Check number, shapes and values of the conditions.

        Args:
            conditions: see :meth:`__call__`.

        Raises:
            ValueError: if one does not fit.
        """
        count = self.unet.config.num_conditions
        if len(conditions) != count:
            raise ValueError(
                f"DiffusionVASPipeline: expected {count} conditions, got {len(conditions)}"
            )
        shape = conditions[0].shape
        # The UNet halves the latents between its levels.
        multiple = self.vae_scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if len(shape) != 4 or shape[1] != 3 or shape[2] % multiple or shape[3] % multiple:
            raise ValueError(
                "DiffusionVASPipeline: expected conditions [T, 3, H, W] with H and W divisible by "
                f"{multiple}, got {tuple(shape)}; choose another size"
            )
        for video in conditions:
            if video.shape != shape or not video.isfinite().all():
                raise ValueError(
                    f"DiffusionVASPipeline: expected finite conditions {tuple(shape)}, got "
                    f"{tuple(video.shape)}{'' if video.shape != shape else ' with NaN or infinity'}"
                )

    def embed_frames(self, video: Tensor, chunk: int) -> Tensor:
        """Run the image encoder on every frame.

        Args:
            video (Tensor[T, 3, H, W]): the first condition, in [-1, 1], before :meth:`preprocess`.
            chunk: frames at once.

        Returns:
            Tensor[T, 1, D]: image embeddings.
        """
        side = self.image_encoder.config.image_size  # official: 224
        return torch.cat(
            [
                self._encode_image(
                    (_resize_with_antialiasing(part, (side, side)) + 1) / 2, video.device, 1, False
                )
                for part in video.split(chunk)
            ]
        )

    def preprocess(self, video: Tensor) -> Tensor:
        """Bring every frame to [-1, 1] by the rule of diffusers' image processor.

        A frame without negative values counts as [0, 1] data and becomes 2x - 1, even where it was
        in [-1, 1] already (official: the nearer frames of a depth clip, bright RGB frames).

        Args:
            video (Tensor[T, 3, H, W]): float.

        Returns:
            Tensor[T, 3, H, W]: float.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Passing `image` as torch tensor", FutureWarning)
            return torch.cat([self.video_processor.preprocess(frame[None]) for frame in video])

    def encode(self, video: Tensor, chunk: int, *, sample: bool = False) -> Tensor:
        """Encode frames, in float32 where the VAE asks for that, without its scaling factor.

        Args:
            video (Tensor[N, 3, H, W]): in [-1, 1].
            chunk: frames at once.
            sample: draw from the latent distribution (training) instead of taking its mode.

        Returns:
            Tensor[N, 4, h, w]: latents.
        """
        upcast = self.vae.dtype == torch.float16 and self.vae.config.force_upcast
        if upcast:
            self.vae.to(dtype=torch.float32)
        found = []
        for part in video.split(chunk):
            distribution = self.vae.encode(part.to(self.vae.dtype)).latent_dist
            found.append(distribution.sample() if sample else distribution.mode())
        if upcast:
            self.vae.to(dtype=torch.float16)
        return torch.cat(found)

    def denoise(
        self,
        latents: Tensor,
        codes: Tensor,
        contexts: Tensor,
        settings: SamplerSettings,
        on_step: StepCallback | None = None,
    ) -> Tensor:
        """Run the sampler.

        Args:
            latents (Tensor[K, T, 4, h, w]): standard normal noise.
            codes (Tensor[K, T, C, h, w]): latents of the conditions.
            contexts (Tensor[2 T, 1, D]): of :func:`guidance_contexts`; [T, 1, D] without guidance.
            settings: steps, guidance and ids.
            on_step: called after every step.

        Returns:
            Tensor[K, T, 4, h, w]: latents of the videos, scaled.
        """
        samples, frames = latents.shape[:2]
        halves = contexts.split(frames)
        rows = [half.repeat(samples, 1, 1) for half in halves]
        inputs = [torch.zeros_like(codes), codes] if settings.guided else [codes]
        if settings.batch_guidance:
            rows, inputs = [torch.cat(rows)], [torch.cat(inputs)]
        ids = self._get_add_time_ids(
            settings.fps - 1,
            settings.motion_bucket_id,
            settings.noise_aug_strength,
            contexts.dtype,
            1,
            1,
            False,
        ).to(latents.device)
        scale = torch.linspace(*settings.guidance, frames).reshape(1, frames, 1, 1, 1)
        scale = scale.to(latents)
        self.scheduler.set_timesteps(settings.steps, device=latents.device)
        latents = latents * self.scheduler.init_noise_sigma
        for step, time in enumerate(self.scheduler.timesteps, start=1):
            noisy = self.scheduler.scale_model_input(latents, time)
            found = []
            for code, row in zip(inputs, rows, strict=True):
                count = len(code) // samples
                stacked = torch.cat([noisy.repeat(count, 1, 1, 1, 1), code], dim=2)
                found.append(self.unet(stacked, time, row, ids.repeat(len(code), 1))[0])
            velocity = torch.cat(found)
            if settings.guided:
                free, conditional = velocity.chunk(2)
                velocity = free + scale * (conditional - free)
            latents = self.scheduler.step(velocity, time, latents).prev_sample
            if on_step is not None:
                on_step(step, settings.steps, latents)
        return latents

    def decode(self, latents: Tensor, chunk: int) -> Tensor:
        """Decode latents, chunk by chunk of every sample.

        Args:
            latents (Tensor[K, T, 4, h, w]): scaled.
            chunk: frames that are decoded, and mixed, together.

        Returns:
            Tensor[K, T, 3, H, W]: float32 in [0, 1].
        """
        upcast = latents.to(self.vae.dtype)
        videos = [self.decode_latents(one[None], one.shape[0], chunk) for one in upcast]
        return self.video_processor.postprocess_video(torch.cat(videos), output_type="pt")
