"""The losses of Diffusion-VAS (official training loop, batched; Sec. 3.2).

Letters: B clips, T frames, H W image, h w latents, D size of an image embedding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from amodal2.modeling.diffusion_vas.conditions import (
    content_condition,
    mask_condition,
    sequence_contexts,
)
from amodal2.modeling.diffusion_vas.edm import (
    Preconditioning,
    denoise,
    denoising_loss,
    draw_sigma,
    spread,
)
from amodal2.modeling.diffusion_vas.inference import ClipInputs, ClipModel, make_conditions
from amodal2.modeling.diffusion_vas.unet import empty_slots

if TYPE_CHECKING:
    from amodal2.modeling.diffusion_vas.pipeline import DiffusionVASPipeline


@dataclass(frozen=True)
class TrainingSettings:
    """How noise is drawn and conditions are dropped.

    Attributes:
        sigma (tuple[float, float]): mean and standard deviation of ln sigma.
        noise_aug (tuple[float, float]): the same of the noise on the conditions.
        dropout (float): rho, in [0, 1/3].
        fps (int): frame rate that the network is told.
        motion (int): motion bucket that it is told.
        chunk (int): frames that VAE and image encoder see together.
        kl_weight (float): of the divergence in the VAE's loss.
        replayed (int): earlier clips that join every batch, see :class:`ClipStore`.
    """

    sigma: tuple[float, float] = (0.7, 1.6)
    noise_aug: tuple[float, float] = (-3.0, 0.5)
    dropout: float = 0.1
    fps: int = 8
    motion: int = 127
    chunk: int = 32
    kl_weight: float = 1e-3
    replayed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if the dropout leaves no room for the cases it divides.
        """
        if not 0 <= self.dropout <= 1 / 3:
            raise ValueError(
                f"TrainingSettings: expected a dropout from 0 to 1/3, got {self.dropout}"
            )


class EncodedClips(NamedTuple):
    """B clips as the UNet takes them.

    Attributes:
        target (Tensor[B, T, 4, h, w]): latents to be made, scaled.
        codes (Tensor[B, T, C, h, w]): latents of the conditions.
        embeddings (Tensor[B, T, 1, D]): of the images.
        aug (Tensor[B]): standard deviation of the noise on the conditions.
    """

    target: Tensor
    codes: Tensor
    embeddings: Tensor
    aug: Tensor


class ClipStore:
    """Remembers the latents of the last clips, which then need no encoding."""

    def __init__(self, size: int) -> None:
        """Start empty.

        Args:
            size: clips that are kept, at least 1.
        """
        self._kept: deque[EncodedClips] = deque(maxlen=size)

    def join(self, new: EncodedClips, count: int) -> EncodedClips:
        """Add earlier clips to a batch, and remember the new ones.

        Args:
            new: B clips.
            count: earlier clips that are wanted; fewer are added while there are not as many. They
                are drawn, with repetitions, by the global generator.

        Returns:
            EncodedClips: B to B + ``count`` of them.
        """
        known = len(self._kept)
        places = torch.randint(known, (min(count, known),)).tolist() if known else []
        drawn = [self._kept[place] for place in places]
        for row in range(len(new.aug)):
            self._kept.append(EncodedClips(*(part[row : row + 1] for part in new)))
        return EncodedClips(*map(torch.cat, zip(new, *drawn, strict=True)))


def training_loss(
    model: ClipModel,
    clips: Sequence[ClipInputs],
    settings: TrainingSettings,
    store: ClipStore | None = None,
) -> Tensor:
    """Compute the loss of a batch: denoising, or regression.

    Args:
        model: pipeline, conditions and variant; the UNet has gradients.
        clips: B clips of one size, with amodal masks.
        settings: noise and dropout.
        store: earlier clips; needed with ``settings.replayed``.

    Returns:
        Tensor[]: float32.
    """
    pipeline = model.pipeline
    batch = encode_clips(model, clips, settings)
    if store is not None:
        batch = store.join(batch, settings.replayed)
    target, code, aug = batch.target, batch.codes, batch.aug
    contexts = torch.stack([sequence_contexts(one) for one in batch.embeddings])
    ids = aug.new_tensor([[settings.fps, settings.motion, 0.0]]).repeat(len(aug), 1)
    ids[:, 2] = aug
    if model.regression:
        (found,) = pipeline.unet(empty_slots(code), 0.0, contexts.flatten(0, 1), ids)
        return ((found.float() - target.float()) ** 2).mean()
    kept_contexts, kept_code = condition_dropout(len(aug), settings.dropout, aug.device)
    sigma = draw_sigma(len(aug), *settings.sigma, aug.device)
    return diffusion_loss(
        pipeline,
        target,
        torch.randn_like(target),
        code * spread(kept_code, code),
        (contexts * spread(kept_contexts, contexts)).flatten(0, 1),
        sigma,
        ids,
    )


@torch.no_grad()
def encode_clips(
    model: ClipModel, clips: Sequence[ClipInputs], settings: TrainingSettings
) -> EncodedClips:
    """Run the fixed networks on a batch; the conditions get noise first, but not for regression.

    Args:
        model: pipeline, conditions and variant.
        clips: B clips of one size, with amodal masks.
        settings: noise and chunks.

    Returns:
        EncodedClips: B of them.
    """
    pipeline = model.pipeline
    videos = [make_conditions(model.conditions, clip) for clip in clips]
    targets = torch.stack([make_target(model.conditions, clip) for clip in clips])
    aug = draw_sigma(len(clips), *settings.noise_aug, targets.device)
    aug = torch.zeros_like(aug) if model.regression else aug
    embeddings = [pipeline.embed_frames(video[0], settings.chunk) for video in videos]
    codes = [
        _encode(pipeline, video + spread(aug, video) * torch.randn_like(video), settings.chunk)
        for video in map(torch.stack, zip(*videos, strict=True))
    ]
    target = _encode(pipeline, targets, settings.chunk) * pipeline.vae.config.scaling_factor
    return EncodedClips(target, torch.cat(codes, dim=2), torch.stack(embeddings), aug)


def diffusion_loss(
    pipeline: DiffusionVASPipeline,
    target: Tensor,
    noise: Tensor,
    codes: Tensor,
    contexts: Tensor,
    sigma: Tensor,
    ids: Tensor,
) -> Tensor:
    """Compute the EDM loss for given draws.

    Args:
        pipeline: its UNet is trained.
        target (Tensor[B, T, 4, h, w]): latents z0, scaled.
        noise (Tensor[B, T, 4, h, w]): standard normal.
        codes (Tensor[B, T, C, h, w]): latents of the conditions.
        contexts (Tensor[B * T, T, D]): image embeddings.
        sigma (Tensor[B]): noise levels.
        ids (Tensor[B, 3]): frame rate, motion bucket, noise augmentation.

    Returns:
        Tensor[]: float32.
    """
    noisy = target + spread(sigma, target) * noise
    factors = Preconditioning.of(sigma)
    stacked = torch.cat([spread(factors.inner, noisy) * noisy, codes], dim=2)
    (output,) = pipeline.unet(stacked, factors.noise, contexts, ids)
    return denoising_loss(denoise(noisy, output, sigma), target, sigma)


def autoencoder_loss(
    model: ClipModel, clips: Sequence[ClipInputs], settings: TrainingSettings
) -> dict[str, Tensor]:
    """Compute the losses of the VAE, for models that start without pre-trained weights.

    Args:
        model: the VAE of its pipeline is trained, on the videos that the UNet will see and make.
        clips: B clips, with amodal masks.
        settings: ``kl_weight``.

    Returns:
        dict: "loss_reconstruct", the mean absolute error, and "loss_kl", the divergence from the
        standard normal distribution after the scaling that the UNet's latents have.
    """
    vae = model.pipeline.vae
    losses: dict[str, Any] = {"loss_reconstruct": 0.0, "loss_kl": 0.0}
    for clip in clips:
        videos = [*make_conditions(model.conditions, clip), make_target(model.conditions, clip)]
        for video in videos:
            found = vae.encode(video).latent_dist
            decoded = vae.decode(found.sample(), num_frames=len(video)).sample
            # SVD's latents have a standard deviation of 1 / scaling_factor.
            factor = vae.config.scaling_factor
            mean, variance = factor * found.mean, factor**2 * found.var
            divergence = 0.5 * (mean**2 + variance - 1 - variance.log()).mean()
            share = 1 / (len(clips) * len(videos))
            losses["loss_reconstruct"] += share * (decoded - video).abs().mean()
            losses["loss_kl"] += share * settings.kl_weight * divergence
    return losses


def make_target(conditions: Sequence[str], clip: ClipInputs) -> Tensor:
    """Return the video that a model learns to make.

    Args:
        conditions: of the model.
        clip: with amodal masks, and frames for the second stage.

    Returns:
        Tensor[T, 3, H, W]: amodal masks, or the whole object on white, in [-1, 1].

    Raises:
        ValueError: if amodal masks or frames are missing.
    """
    content = conditions[0] == "content"
    if clip.amodal is None or (content and clip.frames is None):
        raise ValueError("make_target: expected amodal masks (stage 2: and frames), got none")
    if content:
        assert clip.frames is not None, "checked above"
        return content_condition(clip.frames, clip.amodal)
    return mask_condition(clip.amodal)


def condition_dropout(
    count: int, probability: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw which conditions are kept: one number r per clip, as InstructPix2Pix does.

    r < 2 rho drops the image embeddings, rho <= r < 3 rho the latents.

    Args:
        count: B.
        probability: rho.
        device: of the results; its global generator is used.

    Returns:
        tuple: Tensor[B] of 0 and 1 for embeddings, and the same for latents.
    """
    draw = torch.rand(count, device=device)
    latents_dropped = (draw >= probability) & (draw < 3 * probability)
    return (draw >= 2 * probability).float(), (~latents_dropped).float()


def _encode(pipeline: DiffusionVASPipeline, video: Tensor, chunk: int) -> Tensor:
    """Draw latents of videos, [B, T, 3, H, W] to [B, T, 4, h, w]."""
    return pipeline.encode(video.flatten(0, 1), chunk, sample=True).unflatten(0, video.shape[:2])
