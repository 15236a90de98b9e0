"""Diffusion-VAS as a trainable system: one stage of it, on clips of single objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from amodal2.modeling.diffusion_vas.inference import (
    ClipInputs,
    ClipModel,
    check_conditions,
    seeded,
)
from amodal2.modeling.diffusion_vas.loading import (
    build_pipeline,
    load_earlier_stage,
    load_pipeline,
)
from amodal2.modeling.diffusion_vas.lora import add_lora
from amodal2.modeling.diffusion_vas.masks import mask_probability
from amodal2.modeling.diffusion_vas.settings import SamplerSettings

if TYPE_CHECKING:
    from amodal2.modeling.diffusion_vas.pipeline import DiffusionVASPipeline
    from amodal2.modeling.diffusion_vas.training import ClipStore, TrainingSettings

VARIANTS = ("diffusion", "regression", "autoencoder")
_PROTOCOLS = {"none": "frame", "visible": "object", "amodal": "boxes"}


@META_ARCH_REGISTRY.register()
class DiffusionVAS(nn.Module):
    """One stage: amodal masks, or the content of the hidden part. VAE and image encoder are fixed.

    The parameters are those of the official parts: ``unet``, ``vae``, ``image_encoder``.
    """

    @configurable
    def __init__(
        self,
        *,
        model: ClipModel,
        training: TrainingSettings,
        seeds: Sequence[int] = (23,),
        trainable: Sequence[str] = (),
        autoencoder: bool = False,
        store: ClipStore | None = None,
        size: tuple[int, int] = (256, 512),
        crop: str = "none",
    ) -> None:
        """Freeze what is not trained.

        Args:
            model: pipeline, conditions and variant.
            training: noise and dropout.
            seeds: of the samples in tests.
            trainable: parts of the names of the UNet's parameters that are trained; all without
                any.
            autoencoder: train the VAE instead of the UNet.
            store: earlier clips that join the batches.
            size: H and W of the model's input, for completers.
            crop: what it is shown: "none", "amodal" or "visible", see ``ObjectVideoMapper``.

        Raises:
            ValueError: if no parameter has such a name.
        """
        super().__init__()
        self.model, self.training_settings, self.seeds = model, training, tuple(seeds)
        self.unet = model.pipeline.unet
        self.vae = model.pipeline.vae
        self.image_encoder = model.pipeline.image_encoder
        self.requires_grad_(False)
        self.autoencoder, self.store = autoencoder, store
        self.size, self.protocol = size, _PROTOCOLS[crop]
        network = self.vae if autoencoder else self.unet
        chosen = [
            parameter
            for name, parameter in network.named_parameters()
            # The stock input convolution is kept for the file format only.
            if (not trainable or any(part in name for part in trainable))
            and not name.startswith("conv_in.")
        ]
        if not chosen:
            raise ValueError(
                f"DiffusionVAS: expected parameters with one of {tuple(trainable)} in their name, "
                "got none"
            )
        for parameter in chosen:
            parameter.requires_grad_(True)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``.

        Raises:
            ValueError: for conditions or a variant that do not exist, or two places to start from.
        """
        node = cfg.MODEL.DIFFUSION_VAS
        conditions = tuple(node.CONDITIONS)
        check_conditions(conditions)
        if node.VARIANT not in VARIANTS or node.CROP not in _PROTOCOLS:
            raise ValueError(
                f"DiffusionVAS: expected a variant of {VARIANTS} and a crop of "
                f"{tuple(_PROTOCOLS)}, got {node.VARIANT!r} and {node.CROP!r}"
            )
        pipeline = _start(node, len(conditions))
        if node.LORA_RANK:
            add_lora(pipeline.unet, node.LORA_RANK)
        if node.GRADIENT_CHECKPOINTING:
            pipeline.unet.enable_gradient_checkpointing()
        settings = SamplerSettings(
            steps=node.STEPS,
            guidance=tuple(node.GUIDANCE),
            fps=node.FPS,
            motion_bucket_id=node.MOTION,
            layout=node.LAYOUT,
            decode_chunk=node.DECODE_CHUNK,
        )
        from amodal2.modeling.diffusion_vas.training import ClipStore, TrainingSettings

        return {
            "model": ClipModel(
                pipeline,
                conditions,
                settings,
                node.WINDOW,
                node.OVERLAP,
                node.VARIANT == "regression",
            ),
            "training": TrainingSettings(
                tuple(node.SIGMA),
                tuple(node.NOISE_AUG),
                node.DROPOUT,
                node.FPS,
                node.MOTION,
                replayed=node.REPLAYED,
            ),
            "seeds": range(node.SEED, node.SEED + node.SAMPLES),
            "trainable": () if node.VARIANT == "autoencoder" else tuple(node.TRAINABLE),
            "autoencoder": node.VARIANT == "autoencoder",
            "size": tuple(node.IMAGE_SIZE),
            "crop": node.CROP,
            "store": ClipStore(node.REPLAY_SIZE) if node.REPLAYED else None,
        }

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.unet.conv_in2.weight.device

    def train(self, mode: bool = True) -> DiffusionVAS:
        """Set the training mode of what is trained; the rest stays in evaluation mode."""
        super().train(mode)
        fixed = self.unet if self.autoencoder else self.vae
        fixed.eval()
        self.image_encoder.eval()
        return self

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, Tensor] | list[Tensor]:
        """Train on, or complete, clips of objects.

        Args:
            batch: samples of ``ObjectVideoMapper``: "visible" (bool Tensor[T, H, W]), "amodal" (the
                same; training and stage 2), "frames" (uint8 Tensor[T, 3, H, W]), "depth" (float
                Tensor[T, H, W]; without it that condition is neutral).

        Returns:
            dict | list: in training "loss_denoise", or of the variants "loss_regress", or
            "loss_reconstruct" and "loss_kl"; otherwise per clip the probabilities Tensor[K, T, H,
            W] of stage 1 or, of models that paint, the videos Tensor[K, T, 3, H, W], in [0, 1] on
            the CPU.
        """
        clips = [self._inputs(sample) for sample in batch]
        if self.training:
            from amodal2.modeling.diffusion_vas.training import autoencoder_loss, training_loss

            if self.autoencoder:
                return autoencoder_loss(self.model, clips, self.training_settings)
            name = "loss_regress" if self.model.regression else "loss_denoise"
            return {name: training_loss(self.model, clips, self.training_settings, self.store)}
        videos = [self.model.run(clip, seeded(self.seeds)) for clip in clips]
        if self.model.conditions[0] == "content":
            return videos
        return [mask_probability(video) for video in videos]

    def _inputs(self, sample: dict[str, Any]) -> ClipInputs:
        parts = (sample.get(name) for name in ("frames", "depth", "amodal"))
        moved = [None if part is None else part.to(self.device) for part in parts]
        return ClipInputs(sample["visible"].to(self.device), *moved)


def _start(node: CfgNode, num_conditions: int) -> DiffusionVASPipeline:
    """Build the networks with the weights that training starts from."""
    if node.INIT and node.EARLIER_STAGE:
        raise ValueError(
            "DiffusionVAS: expected INIT or EARLIER_STAGE or neither, got both: "
            f"{node.INIT!r} and {node.EARLIER_STAGE!r}"
        )
    if node.EARLIER_STAGE:
        return load_earlier_stage(
            node.EARLIER_STAGE, node.ARCHITECTURE, num_conditions, zero_init=node.ZERO_INIT
        )
    if node.INIT:
        return load_pipeline(
            node.INIT,
            dtype=torch.float32,
            num_conditions=num_conditions,
            zero_init=node.ZERO_INIT,
        )
    return build_pipeline(node.ARCHITECTURE, num_conditions)
