"""Stage 2 as a system: C2F-Seg for images (Sec. 3.2 and 3.3) and for video (Sec. 3.4).

Shapes: B patches, or N clips of T frames with B = N * T; S side of a patch in pixels, L positions
of the code grid, K codes (index K is MASK), H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.structures import Instances
from torch import Tensor, nn

from amodal2.modeling.c2f_seg.batches import as_clip, pad_clips, stack_field
from amodal2.modeling.c2f_seg.build import (
    LEVELS,
    build_autoencoder,
    build_refinement,
    build_transformer,
    code_stride,
)
from amodal2.modeling.c2f_seg.coarse_transformer import CoarseTransformer
from amodal2.modeling.c2f_seg.decoding import (
    CodeChoice,
    GreedyChoice,
    RandomChoice,
    decode_codes,
    hide_codes,
    top_probabilities,
)
from amodal2.modeling.c2f_seg.paste import Crop, add_visible, paste_patch
from amodal2.modeling.c2f_seg.refine import RefineModule
from amodal2.modeling.c2f_seg.vq_blocks import channels_last
from amodal2.modeling.c2f_seg.vq_mask import MaskAutoencoder
from amodal2.structures import fields
from amodal2.structures.rle import decode_rle

SMOOTHING = 0.1
"""Label smoothing of the codes' cross entropy."""
TRAINING_TOP_K = 5
"""Codes from which the coarse mask of a training step is drawn."""
CPU_PIXELS = 2**17
"""Of the patches that a CPU completes at once; more would leave its caches."""
PROBABILITIES = ("refined", "sum")


@dataclass(frozen=True)
class DecodeOptions:
    """How codes are decoded and masks are made in tests.

    Attributes:
        steps (int): of the decoding.
        top_k (int): codes that a position chooses from.
        temperature (float): of the noise at the start.
        deterministic (bool): no draws and no noise.
        antialias (bool): average where pasting shrinks.
        probability (str): "refined", or "sum" of refined and coarse.
        post_process (bool): add the given visible pixels.
    """

    steps: int = 3
    top_k: int = 3
    temperature: float = 4.5
    deterministic: bool = False
    antialias: bool = True
    probability: str = "refined"
    post_process: bool = True

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if one is out of range.
        """
        if self.probability not in PROBABILITIES:
            raise ValueError(
                f"DecodeOptions: expected a probability of {PROBABILITIES}, got "
                f"{self.probability!r}"
            )
        if self.steps < 1 or self.top_k < 1:
            raise ValueError(
                f"DecodeOptions: expected at least 1 step and top_k of at least 1, got {self}"
            )


@META_ARCH_REGISTRY.register()
class C2FSeg(nn.Module):
    """Completes visible masks on patches around objects.

    The VQ model is fixed. Against the official training all other parameters are trained (unless
    ``freeze_bias_and_ln``), all patches are RGB, and gradients are averaged over the processes.

    Args:
        backbone: gives ``res2`` to ``res5`` at strides 4, 8, s and s, that of the codes (16).
        autoencoder: the VQ model.
        transformer: for images or video.
        refine: None takes the coarse masks.
        options: of tests.
        freeze_bias_and_ln: fix what the official training fixes by mistake.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        autoencoder: MaskAutoencoder,
        transformer: CoarseTransformer,
        refine: RefineModule | None,
        options: DecodeOptions | None = None,
        freeze_bias_and_ln: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.g_model = autoencoder.requires_grad_(False).eval()
        self.model = transformer
        self.refine = refine
        self.options = options or DecodeOptions()
        if freeze_bias_and_ln:
            for name, parameter in transformer.named_parameters():
                if name.endswith("bias") or ".ln1." in name or ".ln2." in name:
                    parameter.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments.

        Raises:
            ValueError: if the input is not RGB, or the backbone's last level has another stride.
        """
        node = cfg.MODEL.C2F_SEG
        if cfg.INPUT.FORMAT != "RGB":
            raise ValueError(f"C2FSeg: expected INPUT.FORMAT 'RGB', got {cfg.INPUT.FORMAT!r}")
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        strides = tuple(shapes[level].stride for level in LEVELS if level in shapes)
        expected = (4, 8, code_stride(cfg), code_stride(cfg))
        if strides != expected:
            raise ValueError(
                f"C2FSeg: expected a backbone with res2 to res5 at strides {expected}, got "
                f"{strides}; use MODEL.BACKBONE.NAME build_c2f_resnet_backbone"
            )
        channels = [shapes[level].channels for level in LEVELS]
        return {
            "backbone": backbone,
            "autoencoder": build_autoencoder(cfg),
            "transformer": build_transformer(cfg, channels[-1]),
            "refine": build_refinement(cfg, channels),
            "options": DecodeOptions(
                steps=node.STEPS,
                top_k=node.TOP_K,
                temperature=node.TEMPERATURE,
                deterministic=node.DETERMINISTIC,
                antialias=node.PASTE_ANTIALIAS,
                probability=node.PROBABILITY,
                post_process=node.POST_PROCESS,
            ),
            "freeze_bias_and_ln": node.FREEZE_BIAS_AND_LN,
        }

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.model.m_bias.device

    @property
    def patch_size(self) -> int:
        """S in pixels."""
        return round(self.model.pos_emb.num_embeddings**0.5) * self.g_model.stride

    def train(self, mode: bool = True) -> C2FSeg:
        """Switch the mode of all but the VQ model."""
        super().train(mode)
        self.g_model.eval()
        return self

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        """Train on a batch, or complete it.

        Args:
            batch: samples of ``ObjectPatchMapper``, or of ``ObjectClipMapper`` for video, all clips
                of one length.

        Returns:
            dict[str, Tensor] | list[dict]: in training "loss_codes", "loss_amodal" and
            "loss_visible" (those whose parts there are). Otherwise one dict per sample: for images
            "instances" at the image's size with the class and the visible mask that were given, a
            score of 1 and the amodal mask; for clips "masks" (bool Tensor[T, H, W], amodal).
        """
        images = torch.cat([as_clip(sample["image"], 3) for sample in batch])
        given = torch.cat([as_clip(sample["input_mask"], 2) for sample in batch])
        images, given = images.to(self.device), given.to(self.device)
        frames = len(given) // len(batch)
        if self.training:
            visible, amodal = (
                stack_field(batch, field).to(self.device)
                for field in (fields.GT_VISIBLE_MASKS, fields.GT_AMODAL_MASKS)
            )
            return self.losses(images, given, visible, amodal, frames=frames)
        found = self.complete(images, given, frames=frames).split(frames)
        return [
            {"masks": self._paste_clip(sample, amodal)}
            if "crops" in sample
            else {"instances": self._paste(sample, amodal)}
            for sample, amodal in zip(batch, found, strict=True)
        ]

    def losses(
        self, images: Tensor, given: Tensor, visible: Tensor, amodal: Tensor, *, frames: int = 1
    ) -> dict[str, Tensor]:
        """Return the losses; see :meth:`forward`.

        Args:
            images (Tensor[B, 3, S, S]): uint8 RGB.
            given (Tensor[B, S, S]): bool, visible masks as the model is given them.
            visible (Tensor[B, S, S]): bool, true visible masks.
            amodal (Tensor[B, S, S]): bool.
            frames: T.

        Returns:
            dict[str, Tensor]: scalars.
        """
        features = self.extract(images)
        source, target = self.g_model.indices(torch.cat([given, amodal])).chunk(2)
        clips = len(given) // frames if self.model.window else 1
        hidden = hide_codes(target, self.model.mask_index, clips)
        logits = self.model(features[-1], source, hidden, frames).float()
        losses = {
            "loss_codes": F.cross_entropy(logits.transpose(1, 2), target, label_smoothing=SMOOTHING)
        }
        if self.refine is None:
            return losses
        shares = top_probabilities(logits.detach()[..., : self.model.mask_index], TRAINING_TOP_K)
        coarse = self.g_model.coarse_masks(RandomChoice().codes(shares), self.g_model.stride)
        found = self.refine(features, coarse)
        for name, fine, truth in zip(("visible", "amodal"), found, (visible, amodal), strict=True):
            if fine is not None:
                grown = F.interpolate(fine.float(), scale_factor=2.0, mode="nearest")
                losses[f"loss_{name}"] = F.binary_cross_entropy_with_logits(
                    grown, truth[:, None].float()
                )
        return losses

    @torch.no_grad()
    def complete(
        self,
        images: Tensor,
        visible: Tensor,
        *,
        frames: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Complete the masks of many patches at once.

        Patches of the image model do not influence one another; clips of the video model are padded
        with copies of their last frame to whole windows.

        Args:
            images (Tensor[B, 3, S, S]): uint8 RGB, or float in [0, 1].
            visible (Tensor[B, S, S]): bool.
            frames: T; 1 for images.
            generator: of the draws; None takes the global one. Unused if they are deterministic.

        Returns:
            Tensor[B, S, S]: float, above 0.5 inside the amodal mask; up to 2 with "sum".

        Raises:
            ValueError: if the shapes do not fit the model or each other.
        """
        self._check(images, visible, frames)
        if not len(images):
            return visible.float()
        choice: CodeChoice = (
            GreedyChoice() if self.options.deterministic else RandomChoice(generator)
        )
        at_once = len(images)
        if images.device.type == "cpu" and frames == 1:
            at_once = max(1, CPU_PIXELS // self.patch_size**2)
        pairs = zip(images.split(at_once), visible.split(at_once), strict=True)
        return torch.cat([self._complete(*pair, frames, choice) for pair in pairs])

    def _complete(self, images: Tensor, visible: Tensor, frames: int, choice: CodeChoice) -> Tensor:
        """Complete what runs at once; see :meth:`complete`."""
        window = self.model.window or 1
        length = -(-frames // window) * window
        images, visible = (pad_clips(x, frames, length) for x in (images, visible))
        features = self.extract(images)
        source = self.g_model.indices(visible)
        condition = self.model.condition(features[-1], source)
        codes = decode_codes(
            lambda current: self.model.predict(condition, current, length).float(),
            torch.full_like(source, self.model.mask_index),
            self.model.mask_index,
            choice,
            steps=self.options.steps,
            top_k=self.options.top_k,
            temperature=self.options.temperature,
        )
        # The refinement looks at one pixel per code only.
        alone = self.refine is None or self.options.probability == "sum"
        coarse = self.g_model.coarse_masks(codes, 1 if alone else self.g_model.stride)
        found = self._refine(features, coarse)[:, 0]
        return found.unflatten(0, (-1, length))[:, :frames].flatten(0, 1)

    def extract(self, images: Tensor) -> list[Tensor]:
        """Return C2, C3, C4 and C5 of RGB patches Tensor[B, 3, S, S], uint8 or in [0, 1]."""
        scaled = images.float() / 255 if images.dtype == torch.uint8 else images
        features = self.backbone(channels_last(scaled))
        return [features[level] for level in LEVELS]

    def paste(
        self,
        patch: Tensor,
        crop: Crop,
        size: tuple[int, int],
        padding: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """Return the mask of a completed patch.

        Args:
            patch (Tensor[S, S]): of :meth:`complete`.
            crop: top, left, height and width of what it shows, in pixels of the image.
            size: H and W.
            padding: rows at the bottom and columns at the right that show nothing.

        Returns:
            Tensor[H, W]: bool.
        """
        antialias = self.options.antialias
        whole = paste_patch(patch[None], crop, size, padding=padding, antialias=antialias)
        return whole[0] > 0.5

    def _refine(self, features: Sequence[Tensor], coarse: Tensor) -> Tensor:
        """Return probabilities Tensor[B, 1, S, S], or their sum."""
        if self.refine is None:
            return coarse
        _, amodal = self.refine(features, coarse, visible=False)
        fine = F.interpolate(amodal.float(), scale_factor=2.0, mode="nearest").sigmoid()
        return fine + coarse if self.options.probability == "sum" else fine

    def _paste(self, sample: dict[str, Any], amodal: Tensor) -> Instances:
        """Put a completed patch (Tensor[1, S, S]) back into its image."""
        size = sample["height"], sample["width"]
        patch = amodal[0].flip(1) if sample["flipped"] else amodal[0]
        whole = self.paste(patch, sample["crop"], size)
        visible = torch.from_numpy(decode_rle(sample["visible_segm"])).bool().to(whole.device)
        if self.options.post_process:
            whole = add_visible(whole, visible)
        instances = Instances(size)
        instances.set(fields.PRED_CLASSES, sample["instances"].get(fields.GT_CLASSES))
        instances.set(fields.SCORES, torch.ones(1))
        instances.set(fields.PRED_AMODAL_MASKS, whole[None])
        instances.set(fields.PRED_VISIBLE_MASKS, visible[None])
        return instances

    def _paste_clip(self, sample: dict[str, Any], amodal: Tensor) -> Tensor:
        """Put the patches of a clip (Tensor[T, S, S]) back into their frames."""
        size = sample["height"], sample["width"]
        places = zip(amodal, sample["crops"], sample["paddings"], strict=True)
        return torch.stack([self.paste(patch, crop, size, pad) for patch, crop, pad in places])

    def _check(self, images: Tensor, visible: Tensor, frames: int) -> None:
        """Check what :meth:`complete` is given."""
        side = self.patch_size
        if images.shape != (len(visible), 3, side, side) or visible.shape[1:] != (side, side):
            raise ValueError(
                f"C2FSeg.complete: expected patches [B, 3, {side}, {side}] and masks [B, {side}, "
                f"{side}], got {tuple(images.shape)} and {tuple(visible.shape)}; the size of the "
                "patches is INPUT.AMODAL.PATCH_SIZE"
            )
        if frames < 1 or len(images) % frames or (frames > 1 and not self.model.window):
            raise ValueError(
                f"C2FSeg.complete: expected clips of whole frames (1 for the image model), got "
                f"{frames} frames per clip in {len(images)} patches"
            )
