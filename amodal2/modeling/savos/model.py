"""SaVos as a meta-architecture and as a completer."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from amodal2.modeling.completion.base import (
    COMPLETER_REGISTRY,
    FLOW,
    FRAMES,
    Completer,
    Completion,
    ObjectClip,
)
from amodal2.modeling.completion.crops import CropRule
from amodal2.modeling.completion.samples import complete_sample
from amodal2.modeling.completion.track_batch import TrackBatch
from amodal2.modeling.savos.layers import PATCH_SIZE
from amodal2.modeling.savos.losses import both_consistency_losses, mask_loss, photometric_loss
from amodal2.modeling.savos.network import SavosNetwork, merge_for_losses, merge_frames
from amodal2.modeling.savos.patches import build_input
from amodal2.modeling.savos.presets import PRESETS, SavosOptions


@META_ARCH_REGISTRY.register()
class SaVos(SavosNetwork):
    """Learns whole shapes from visible masks alone (SaVos), or from amodal ones (its oracle).

    Args:
        base: channels of the first block; 32 in the paper.
        options: where code and paper differ.
        rule: how patches are cut out; None is the released code's way.
        labels: "visible" (self-supervised) or "amodal" (supervised: full masks, weight 1).
        mask_weight: lambda_1, of the mask loss.
        consistency_weight: lambda_2, of the consistency loss.
        window: frames of a test video that are seen at once.
        overlap: frames that neighbouring windows share.
        compose: what becomes of the prediction, see ``CompletionSettings``.

    Raises:
        ValueError: if ``labels`` is unknown.
    """

    @configurable
    def __init__(
        self,
        *,
        base: int = 32,
        options: SavosOptions | None = None,
        rule: CropRule | None = None,
        labels: str = "visible",
        mask_weight: float = 1.0,
        consistency_weight: float = 1.0,
        window: int = 128,
        overlap: int = 32,
        compose: str = "others",
    ) -> None:
        super().__init__(base, options)
        if labels not in ("visible", "amodal"):
            raise ValueError(f"SaVos: expected LABELS visible or amodal, got {labels!r}")
        self.rule, self.labels = rule, labels
        self.mask_weight, self.consistency_weight = mask_weight, consistency_weight
        self.window, self.overlap, self.compose = window, overlap, compose

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments."""
        node = cfg.MODEL.SAVOS
        if node.PRESET not in PRESETS:
            raise ValueError(
                f"SaVos: expected MODEL.SAVOS.PRESET of {sorted(PRESETS)}, got {node.PRESET!r}"
            )
        options = SavosOptions(
            **{**vars(PRESETS[node.PRESET]), "photometric": node.PHOTOMETRIC_WEIGHT}
        )
        rule = CropRule(PATCH_SIZE, enlarge=node.ENLARGE, follow=node.FOLLOW)
        return {
            "base": node.BASE_CHANNELS,
            "options": options,
            "rule": None if node.PRESET == "official" else rule,
            "labels": node.LABELS,
            "mask_weight": node.MASK_WEIGHT,
            "consistency_weight": node.CONSISTENCY_WEIGHT,
            "window": node.TEST_WINDOW,
            "overlap": node.TEST_OVERLAP,
            "compose": node.COMPOSE,
        }

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.parameters()).device

    def forward(self, samples: list[dict[str, Any]]) -> Any:
        """Compute losses in training, complete the masks of videos otherwise.

        Args:
            samples: of ``ObjectTrackMapper``.

        Returns:
            dict[str, Tensor]: ``loss_mask``, ``loss_consistency`` and, if it has a weight,
            ``loss_photometric``; or list[dict] with ``prediction`` (``VideoPrediction``).

        Raises:
            ValueError: with LABELS amodal, if a sample has no amodal masks.
        """
        if self.training:
            return self.losses(TrackBatch.collate(samples, self.device))[0]
        completer = SavosCompleter(self)
        return [complete_sample(completer, sample, self.compose, self.device) for sample in samples]

    def losses(self, batch: TrackBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted losses of a batch, and what it predicts.

        Args:
            batch: the tracks.

        Returns:
            tuple[dict[str, Tensor], Tensor[B, T, H, W]]: losses as :meth:`forward` names them, and
            the merged masks of ``merge_for_losses``.
        """
        tracks = build_input(
            batch.frames, batch.visible, batch.forward_flow, batch.backward_flow, self.rule
        )
        forward, reverse = self.both_directions(tracks)
        merged = merge_for_losses(forward, reverse)
        if self.labels == "amodal":
            labels, weights = batch.labels("SaVos"), torch.ones_like(batch.others)
        else:
            labels, weights = batch.visible, 1 - batch.others * (1 - batch.visible)
        consistency = both_consistency_losses(self, merged, forward, reverse, batch.counts)
        losses = {
            "loss_mask": self.mask_weight * mask_loss(merged, labels, weights, batch.counts),
            "loss_consistency": self.consistency_weight * consistency,
        }
        if self.options.photometric:
            losses["loss_photometric"] = photometric_loss(
                self, tracks, forward, reverse, batch.counts
            )
        return losses, merged


class SavosCompleter(Completer):
    """Completes the masks of one object at a time in the region that it moves in."""

    needs = frozenset({FRAMES, FLOW})

    def __init__(self, model: SaVos) -> None:
        """Take a model.

        Args:
            model: in evaluation mode.
        """
        self._model = model
        self.window, self.overlap = model.window, model.overlap
        enlarge = 2.0 if model.rule is None else max(2.0, model.rule.enlarge)
        self.rule = CropRule(enlarge=enlarge, margin=8)

    def complete(self, clip: ObjectClip) -> Completion:
        """Merge both directions, see :class:`Completer`."""
        assert clip.frames is not None, "FRAMES is among the needs"
        tracks = build_input(clip.frames, clip.visible.float(), *clip.flows, self._model.rule)
        return Completion(merge_frames(*self._model.both_directions(tracks))[None])


@COMPLETER_REGISTRY.register()
def savos(*, model: SaVos) -> Completer:
    """Make a :class:`SavosCompleter`, see there."""
    return SavosCompleter(model)
