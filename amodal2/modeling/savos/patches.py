"""From tracks to the patches that SaVos sees: its own crop rule, or that of the released code.

Letters: B tracks, T frames, H W region.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from amodal2.modeling.completion.crops import CropRule, crop_patches
from amodal2.modeling.completion.track_batch import batch_windows
from amodal2.modeling.savos.layers import PATCH_SIZE
from amodal2.modeling.savos.network import TrackInput
from amodal2.structures.crop_window import Windows, filled_windows, visible_windows

_ENLARGE = 1.5


def build_input(
    frames: Tensor,
    visible: Tensor,
    forward_flow: Tensor,
    backward_flow: Tensor,
    rule: CropRule | None,
) -> TrackInput:
    """Cut the patches out.

    Args:
        frames (Tensor[B, T, 3, H, W]): RGB in [0, 1].
        visible (Tensor[B, T, H, W]): float, 0 or 1; each visible in some frame.
        forward_flow (Tensor[B, T, 2, H, W]): in pixels.
        backward_flow (Tensor[B, T, 2, H, W]): in pixels.
        rule: how; None is the released code's: boxes in whole pixels, all frames at the scale of
            the frame that shows most, from the top left of the patch.

    Returns:
        TrackInput: flow keeps its unit, whatever the scale of the patches.
    """
    channels = torch.cat([frames, visible[:, :, None], forward_flow, backward_flow], dim=2)
    if rule is None:
        windows, scaled = _official_windows(visible)
        patches = _cut(channels, scaled)
        patches = patches * _inside(windows, scaled)[:, :, None]
    else:
        windows = batch_windows(visible, forward_flow, rule)
        patches = _cut(channels, windows)
    return TrackInput(patches, windows, visible, forward_flow, backward_flow)


def _cut(channels: Tensor, windows: Tensor) -> Tensor:
    patches = crop_patches(channels.flatten(0, 1), windows.flatten(0, 1), PATCH_SIZE)
    return patches.unflatten(0, channels.shape[:2])


def official_box(box: np.ndarray, size: tuple[int, int]) -> list[int]:
    """Enlarge a box by the released code's integer rule.

    Args:
        box (ndarray[4]): (top, left, bottom, right), the latter two exclusive.
        size: height and width of the frames.

    Returns:
        list[int]: (first row, first column, last row, last column); the last ones may be the size
        itself.
    """
    sides = []
    for low, high, extent in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
        first, last = int(low), int(high) - 1
        centre, half = (first + last) // 2, int((last - first) * _ENLARGE) // 2
        sides.append((max(0, centre - half), min(extent, centre + half)))
    return [sides[0][0], sides[1][0], sides[0][1], sides[1][1]]


def _official_windows(visible: Tensor) -> tuple[Tensor, Tensor]:
    """Return the boxes [B, T, 4] and the windows that show them at the tracks' common scales."""
    masks = visible.cpu().numpy() > 0
    size = (masks.shape[2], masks.shape[3])
    boxes, scaled = [], []
    for mask in masks:
        filled: Windows = filled_windows(visible_windows(mask))
        own = np.array([official_box(box, size) for box in filled], np.float64)
        best = int(mask.sum(axis=(1, 2)).argmax())
        sides = np.minimum(own[best, 2:] + 1, size) - own[best, :2]
        boxes.append(own)
        scaled.append(np.concatenate([own[:, :2], own[:, :2] + sides], axis=1))
    return tuple(torch.from_numpy(np.stack(one)).to(visible) for one in (boxes, scaled))  # type: ignore[return-value]


def _inside(windows: Tensor, scaled: Tensor) -> Tensor:
    """Tell which patch pixels lie in the box, whose last row and column count (0 or 1)."""
    height, width = PATCH_SIZE
    parts = []
    for axis, count in ((0, height), (1, width)):
        low, high = scaled[..., axis, None], scaled[..., axis + 2, None]
        centres = low + (torch.arange(count, device=low.device) + 0.5) * (high - low) / count
        parts.append(centres <= windows[..., axis + 2, None] + 1)
    return (parts[0][..., None] & parts[1][..., None, :]).to(windows)
