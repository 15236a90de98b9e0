"""Stage 1 as a system: training of the VQ model of masks (C2F-Seg, Sec. 3.1; VQ-GAN).

Shapes: B masks, S side in pixels, E channels of a code, K codes.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.distributed as dist
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import Tensor, nn

from amodal2.modeling.c2f_seg.batches import stack_field
from amodal2.modeling.c2f_seg.build import build_autoencoder
from amodal2.modeling.c2f_seg.discriminator import PatchDiscriminator, hinge_loss
from amodal2.modeling.c2f_seg.perceptual import PerceptualLoss, load_perceptual_loss
from amodal2.modeling.c2f_seg.vq_mask import MaskAutoencoder, Quantised
from amodal2.structures import fields
from amodal2.utils.batch_mean import only_counting

logger = logging.getLogger(__name__)

_MOST_WEIGHT = 1e4


class Critic(nn.Module):
    """What judges reconstructions (official ``d_model``): discriminator and LPIPS."""

    def __init__(self, perceptual_loss: PerceptualLoss | None, width: int) -> None:
        """Build the discriminator of that many channels; LPIPS is optional."""
        super().__init__()
        self.discriminator = PatchDiscriminator(width)
        self.perceptual_loss = perceptual_loss


@META_ARCH_REGISTRY.register()
class MaskVQ(nn.Module):
    """Learns to turn amodal masks into codes and back.

    Generator and discriminator learn in the same step: the generator's adversarial loss sees the
    discriminator's parameters as constants, the discriminator's loss sees the reconstruction as a
    constant, so the gradients of the sum of the losses are those of both and any trainer will do.
    The official code lets the discriminator step first, from the same reconstruction. With
    ``SOLVER.ACCUMULATE`` every part of a batch has its own balance of the two, and ages the codes.

    Args:
        autoencoder: the VQ model.
        perceptual_loss: LPIPS; None trains with L1 and the adversarial loss.
        adversarial_weight: of the adversarial loss, whose gradient at the last layer is scaled to
            the reconstruction's first.
        dead_code_age: iterations without use after which a code is replaced by a feature of the
            batch; 0 never does.
        discriminator_channels: of its first layer.
    """

    code_age: Tensor

    @configurable
    def __init__(
        self,
        *,
        autoencoder: MaskAutoencoder,
        perceptual_loss: PerceptualLoss | None = None,
        adversarial_weight: float = 0.75,
        dead_code_age: int = 0,
        discriminator_channels: int = 64,
    ) -> None:
        super().__init__()
        self.g_model = autoencoder
        self.d_model = Critic(perceptual_loss, discriminator_channels)
        self.adversarial_weight = adversarial_weight
        self.dead_code_age = dead_code_age
        codes = autoencoder.quantize.embedding.num_embeddings
        self.register_buffer("code_age", torch.zeros(codes, dtype=torch.int64))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments; the log says which loss it is."""
        node = cfg.MODEL.C2F_SEG.VQ
        perceptual = load_perceptual_loss(node.LPIPS_WEIGHTS) if node.LPIPS_WEIGHTS else None
        logger.info(
            "MaskVQ: the reconstruction loss is L1 %s, with an adversarial loss",
            f"and LPIPS of {node.LPIPS_WEIGHTS}"
            if perceptual
            else "without LPIPS (MODEL.C2F_SEG.VQ.LPIPS_WEIGHTS is empty)",
        )
        return {
            "autoencoder": build_autoencoder(cfg),
            "perceptual_loss": perceptual,
            "adversarial_weight": node.ADVERSARIAL_WEIGHT,
            "dead_code_age": node.DEAD_CODE_AGE,
            "discriminator_channels": node.DISCRIMINATOR_CHANNELS,
        }

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take official files too, which count no ages."""
        state.setdefault(prefix + "code_age", torch.zeros_like(self.code_age))
        super()._load_from_state_dict(state, prefix, *args)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.g_model.quant_conv.weight.device

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        """Train on the amodal masks of a batch, or reconstruct them.

        Args:
            batch: samples of ``ObjectPatchMapper`` or ``ObjectClipMapper``.

        Returns:
            dict[str, Tensor] | list[dict]: in training the losses; otherwise for each mask
            "masks" (bool Tensor[S, S], the reconstruction) and "iou" with the amodal mask.
        """
        if only_counting():  # no loss is divided by a number of the batch
            return {}
        masks = stack_field(batch, fields.GT_AMODAL_MASKS)
        masks = masks[:, None].to(self.device, torch.float32)
        return self.losses(masks) if self.training else self._reconstruct(masks)

    def losses(self, masks: Tensor) -> dict[str, Tensor]:
        """Return the losses of generator and discriminator; see the class.

        Args:
            masks (Tensor[B, 1, S, S]): 0 or 1.

        Returns:
            dict[str, Tensor]: "loss_reconstruction", "loss_codebook", "loss_adversarial" and
            "loss_discriminator".
        """
        features = self.g_model.encode(masks)
        if self.dead_code_age:
            self._replace_dead_codes(features.detach())
        found = self.g_model.quantize(features)
        self._count_codes(found)
        rebuilt = self.g_model.decode(found.values)
        distance = (masks - rebuilt).abs()
        if self.d_model.perceptual_loss is not None:
            distance = distance + self.d_model.perceptual_loss(masks, rebuilt)
        reconstruction = distance.mean()
        judge = self.d_model.discriminator
        adversarial = -judge.judge_fixed(rebuilt).mean()
        weight = self._balance(reconstruction, adversarial)
        return {
            "loss_reconstruction": reconstruction,
            "loss_codebook": found.loss,
            "loss_adversarial": self.adversarial_weight * weight * adversarial,
            "loss_discriminator": hinge_loss(judge(masks), judge(rebuilt.detach())),
        }

    def _balance(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        """Return the ratio of the norms of the gradients of all ranks at the last layer."""
        last = self.g_model.decoder.conv_out.weight
        gradients = torch.stack(
            [
                torch.autograd.grad(loss, last, retain_graph=True)[0]
                for loss in (reconstruction, adversarial)
            ]
        )
        if comm.get_world_size() > 1:
            dist.all_reduce(gradients)
            gradients /= comm.get_world_size()
        norms = gradients.flatten(1).norm(dim=1)
        return (norms[0] / (norms[1] + 1e-4)).clamp(0.0, _MOST_WEIGHT)

    @torch.no_grad()
    def _replace_dead_codes(self, features: Tensor) -> None:
        """Move codes that no mask uses to features of the batch, the same on all ranks."""
        dead = (self.code_age >= self.dead_code_age).nonzero()[:, 0]
        if not len(dead):
            return
        vectors = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        fresh = vectors[torch.randint(len(vectors), (len(dead),), device=vectors.device)]
        if comm.get_world_size() > 1:
            dist.broadcast(fresh, 0)
        codes = self.g_model.quantize.embedding.weight
        codes[dead] = fresh.to(codes.dtype)
        self.code_age[dead] = 0
        logger.info("MaskVQ: replaced %d of %d codes that nothing used", len(dead), len(codes))

    @torch.no_grad()
    def _count_codes(self, found: Quantised) -> None:
        """Age the codes that the batch does not use."""
        used = torch.bincount(found.indices.flatten(), minlength=len(self.code_age))
        if comm.get_world_size() > 1:
            dist.all_reduce(used)
        self.code_age += 1
        self.code_age[used > 0] = 0

    @torch.no_grad()
    def _reconstruct(self, masks: Tensor) -> list[dict[str, Any]]:
        rebuilt = self.g_model.coarse_masks(self.g_model.indices(masks[:, 0]))[:, 0] > 0.5
        truth = masks[:, 0] > 0.5
        common = (rebuilt & truth).flatten(1).sum(1)
        either = (rebuilt | truth).flatten(1).sum(1)
        ratio = (common / either.clamp(min=1)).tolist()
        return [{"masks": mask, "iou": iou} for mask, iou in zip(rebuilt, ratio, strict=True)]
