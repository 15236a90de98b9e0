"""PCNet-M: self-supervised de-occlusion of single frames, with recovery of the order.

Zhan et al., Self-Supervised Scene De-occlusion (CVPR 2020); "Self-Deocclusion" in the SaVos paper.
Parameter names are those of the released code. It sees masks only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional

from amodal2.modeling.completion.base import (
    COMPLETER_REGISTRY,
    Completer,
    Completion,
    ObjectClip,
)
from amodal2.modeling.completion.crops import CropRule, crop_patches
from amodal2.modeling.completion.ordering import Order, all_in_front, touching
from amodal2.modeling.completion.samples import complete_sample
from amodal2.structures.crop_window import square_windows, visible_windows

_ORDER_THRESHOLD, _MASK_THRESHOLD = 0.1, 0.2
_ERASER_WEIGHT = 5.0
_LEVELS = 4


class _DoubleConv(nn.Module):
    """Twice 3x3 convolution, batch normalisation and ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (before, after):
            layers += [nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.conv = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


class _In(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = _DoubleConv(before, after)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


class _Down(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.mpconv = nn.Sequential(nn.MaxPool2d(2), _DoubleConv(before, after))

    def forward(self, images: Tensor) -> Tensor:
        return self.mpconv(images)


class _Up(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = _DoubleConv(before, after)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        grown = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=True)
        return self.conv(torch.cat([fine, grown], dim=1))


class _Out(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


@META_ARCH_REGISTRY.register()
class PCNetM(nn.Module):
    """A U-Net from mask and eraser to the whole mask.

    Args:
        width: w; the levels have 16 w, 32 w, 64 w, 128 w and 128 w channels.
        patch_size: side of the patches in pixels, a multiple of 16.
        compose: what becomes of the prediction, see ``CompletionSettings``.

    Raises:
        ValueError: if the side is no multiple of 16.
    """

    @configurable
    def __init__(self, *, width: int = 2, patch_size: int = 256, compose: str = "raw") -> None:
        super().__init__()
        if patch_size < 1 or patch_size % 2**_LEVELS:
            raise ValueError(f"PCNetM: expected a multiple of 16 pixels, got {patch_size}")
        a, b, c, d = (16 * width * 2**level for level in range(_LEVELS))
        self.inc = _In(2, a)
        self.down1, self.down2 = _Down(a, b), _Down(b, c)
        self.down3, self.down4 = _Down(c, d), _Down(d, d)
        self.up1, self.up2 = _Up(2 * d, c), _Up(2 * c, b)
        self.up3, self.up4 = _Up(2 * b, a), _Up(2 * a, a)
        self.outc = _Out(a, 2)
        self.size, self.compose = (patch_size, patch_size), compose

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments."""
        node = cfg.MODEL.PCNET
        size = cfg.INPUT.AMODAL.PATCH_SIZE
        return {"width": node.WIDTH, "patch_size": size, "compose": node.COMPOSE}

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.outc.conv.weight.device

    def predict(self, masks: Tensor, erasers: Tensor) -> Tensor:
        """Return logits of the two classes.

        Args:
            masks (Tensor[B, S, S]): bool, without what lies under the erasers.
            erasers (Tensor[B, S, S]): bool.

        Returns:
            Tensor[B, 2, S, S]: of "not the object" and "the object".
        """
        inputs = torch.stack([masks, erasers], dim=1).to(self.outc.conv.weight)
        level1 = self.inc(inputs)
        level2 = self.down1(level1)
        level3 = self.down2(level2)
        level4 = self.down3(level3)
        current = self.up1(self.down4(level4), level4)
        current = self.up2(current, level3)
        return self.outc(self.up4(self.up3(current, level2), level1))

    def forward(self, samples: list[dict[str, Any]]) -> Any:
        """Compute the loss in training, complete the masks of videos otherwise.

        Args:
            samples: of ``EraserPatchMapper``.

        Returns:
            dict[str, Tensor]: ``loss_mask``, the cross-entropy with weight 5 under the eraser,
            summed and divided by the number of pixels; or list[dict] with ``prediction``.
        """
        if not self.training:
            completer = PCNetCompleter(self)
            return [complete_sample(completer, one, self.compose, self.device) for one in samples]
        masks, erasers, targets = (
            torch.stack([sample[name] for sample in samples]).to(self.device)
            for name in ("mask", "eraser", "target")
        )
        entropy = functional.cross_entropy(
            self.predict(masks, erasers), targets.long(), reduction="none"
        )
        weights = torch.where(erasers, _ERASER_WEIGHT, 1.0)
        return {"loss_mask": (entropy * weights).mean()}


class PCNetCompleter(Completer):
    """Completes each frame by itself under what lies in front."""

    window = 8
    threshold = _MASK_THRESHOLD

    def __init__(self, model: PCNetM) -> None:
        """Take a model.

        Args:
            model: in evaluation mode.
        """
        self._model = model
        self.rule = CropRule(model.size, follow="square")

    @torch.inference_mode()
    def in_front(self, masks: np.ndarray) -> Order:
        """Order touching objects: who gains more under the other lies behind.

        Args:
            masks (ndarray[M, H, W]): bool.

        Returns:
            ndarray[M, M]: transitive.
        """
        pairs = np.argwhere(touching(masks))
        gains = np.zeros((len(masks), len(masks)))
        windows = square_windows(visible_windows(masks))
        for one, other in pairs.tolist():
            gains[one, other] = self._gain(masks[one], masks[other], windows[one])
        return all_in_front(gains > gains.T)

    def _gain(self, mask: np.ndarray, eraser: np.ndarray, window: np.ndarray) -> float:
        """Return the pixels of the frame that an object gains under an eraser."""
        images = torch.from_numpy(np.stack([mask, eraser])).float()[None].to(self._model.device)
        place = torch.from_numpy(window)[None].to(images)
        patches = crop_patches(images, place, self._model.size)[0] >= 0.5
        own, over = patches[0] & ~patches[1], patches[1]
        found = self._model.predict(own[None], over[None]).softmax(dim=1)[0, 1] > _ORDER_THRESHOLD
        scale = (window[2] - window[0]) / self._model.size[0]
        return float((found & over).sum()) * scale**2

    def complete(self, clip: ObjectClip) -> Completion:
        """Return the probabilities, see :class:`Completer`."""
        masks, erasers = clip.visible.flatten(0, 1), clip.others.flatten(0, 1)
        logits = self._model.predict(masks & ~erasers, erasers)
        return Completion(logits.softmax(dim=1)[:, 1].unflatten(0, clip.visible.shape[:2])[None])


@COMPLETER_REGISTRY.register()
def pcnet(*, model: PCNetM) -> Completer:
    """Make a :class:`PCNetCompleter`, see there."""
    return PCNetCompleter(model)
