"""A U-Net that completes masks frame by frame, learnt from amodal masks: the image-level baseline.

Table 1 of SaVos has a supervised U-Net; what it saw is not published. This one sees colours, the
visible mask and the other objects' masks of a patch.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional

from amodal2.modeling.completion.base import (
    COMPLETER_REGISTRY,
    FRAMES,
    Completer,
    Completion,
    ObjectClip,
)
from amodal2.modeling.completion.crops import CropRule, crop_patches
from amodal2.modeling.completion.samples import complete_sample
from amodal2.modeling.completion.track_batch import TrackBatch, batch_windows

_CHANNELS = 5  # RGB, visible mask, other objects
_LEVELS = 4


@META_ARCH_REGISTRY.register()
class AmodalUNet(nn.Module):
    """Four times halved and doubled, with skip connections; group normalisation.

    Args:
        channels: of the finest level; each coarser one has twice as many, at most 8 times.
        patch_size: side of the square patches in pixels, a multiple of 16.
        enlarge: factor from the visible box to the patch.
        compose: what becomes of the prediction, see ``CompletionSettings``.

    Raises:
        ValueError: if the side is no multiple of 16.
    """

    @configurable
    def __init__(
        self, *, channels: int = 32, patch_size: int = 64, enlarge: float = 2.0, compose: str
    ) -> None:
        super().__init__()
        if patch_size < 1 or patch_size % 2**_LEVELS:
            raise ValueError(f"AmodalUNet: expected a multiple of 16 pixels, got {patch_size}")
        widths = [channels * min(8, 2**level) for level in range(_LEVELS + 1)]
        self.first = _block(_CHANNELS, widths[0])
        self.down = nn.ModuleList(
            _block(before, after) for before, after in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            _block(before + after, after)
            for before, after in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], 1, 1)
        self.rule = CropRule((patch_size, patch_size), enlarge=enlarge, follow="visible")
        self.compose = compose

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments."""
        node = cfg.MODEL.AMODAL_UNET
        return {
            "channels": node.CHANNELS,
            "patch_size": node.PATCH_SIZE,
            "enlarge": node.ENLARGE,
            "compose": node.COMPOSE,
        }

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.last.weight.device

    def predict(self, patches: Tensor) -> Tensor:
        """Return logits of the whole object.

        Args:
            patches (Tensor[B, 5, S, S]): RGB in [0, 1], visible mask, other objects' masks.

        Returns:
            Tensor[B, S, S]: logits.
        """
        levels = [self.first(patches)]
        for block in self.down:
            levels.append(block(functional.max_pool2d(levels[-1], 2)))
        current = levels.pop()
        for block in self.up:
            grown = functional.interpolate(current, scale_factor=2, mode="bilinear")
            current = block(torch.cat([grown, levels.pop()], dim=1))
        return self.last(current)[:, 0]

    def forward(self, samples: list[dict[str, Any]]) -> Any:
        """Compute the loss in training, complete the masks of videos otherwise.

        Args:
            samples: of ``ObjectTrackMapper``.

        Returns:
            dict[str, Tensor]: ``loss_mask``, the mean cross-entropy of the patches' pixels; or
            list[dict] with ``prediction`` (``VideoPrediction``).

        Raises:
            ValueError: if a training sample has no amodal masks.
        """
        if not self.training:
            completer = UNetCompleter(self)
            return [complete_sample(completer, one, self.compose, self.device) for one in samples]
        batch = TrackBatch.collate(samples, self.device)
        assert self.rule.size is not None, "the constructor sets it"
        windows = batch_windows(batch.visible, batch.forward_flow, self.rule)
        masks = torch.stack([batch.visible, batch.others, batch.labels("AmodalUNet")], dim=2)
        channels = torch.cat([batch.frames, masks], dim=2)
        patches = crop_patches(channels.flatten(0, 1), windows.flatten(0, 1), self.rule.size)
        chosen = patches[batch.counts.flatten() > 0]
        labels = (chosen[:, -1] >= 0.5).to(chosen)
        logits = self.predict(chosen[:, :-1])
        return {"loss_mask": functional.binary_cross_entropy_with_logits(logits, labels)}


class UNetCompleter(Completer):
    """Completes each frame by itself."""

    needs = frozenset({FRAMES})
    window = 8

    def __init__(self, model: AmodalUNet) -> None:
        """Take a model.

        Args:
            model: in evaluation mode.
        """
        self._model = model
        self.rule = model.rule

    def complete(self, clip: ObjectClip) -> Completion:
        """Return the probabilities, see :class:`Completer`."""
        assert clip.frames is not None, "FRAMES is among the needs"
        masks = torch.stack([clip.visible, clip.others], dim=2)
        patches = torch.cat([clip.frames, masks.to(clip.frames)], dim=2)
        logits = self._model.predict(patches.flatten(0, 1))
        return Completion(logits.sigmoid().unflatten(0, clip.visible.shape[:2])[None])


@COMPLETER_REGISTRY.register()
def unet(*, model: AmodalUNet) -> Completer:
    """Make a :class:`UNetCompleter`, see there."""
    return UNetCompleter(model)


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [
            nn.Conv2d(channels, after, 3, padding=1, bias=False),
            nn.GroupNorm(1, after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
