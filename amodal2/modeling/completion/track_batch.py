"""Training samples of the object track mapper as one batch.

Letters: B tracks, T frames, H W region. Shorter tracks and smaller regions are filled up at the
end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amodal2.modeling.completion.crops import CropRule, crop_windows, mean_motion
from amodal2.structures.crop_window import visible_windows


@dataclass
class TrackBatch:
    """B objects with what surrounds them; tensors on one device.

    Attributes:
        frames (Tensor[B, T, 3, H, W]): RGB in [0, 1].
        visible (Tensor[B, T, H, W]): float, 0 or 1.
        others (Tensor[B, T, H, W]): float, the union of all other objects' visible masks.
        forward_flow (Tensor[B, T, 2, H, W]): (x, y) to the next frame in pixels.
        backward_flow (Tensor[B, T, 2, H, W]): (x, y) to the frame before in pixels.
        counts (Tensor[B, T]): 1 for a frame, 0 for one that fills up.
        amodal (Tensor[B, T, H, W] | None): float; None if a sample has none.
    """

    frames: Tensor
    visible: Tensor
    others: Tensor
    forward_flow: Tensor
    backward_flow: Tensor
    counts: Tensor
    amodal: Tensor | None = None

    @classmethod
    def collate(cls, samples: Sequence[dict[str, Any]], device: torch.device) -> TrackBatch:
        """Join samples; the last frame repeats until T, the region grows to the right and down.

        Args:
            samples: of ``ObjectTrackMapper`` in training mode, at least one.
            device: where the tensors go.
        """
        length = max(len(sample["visible"]) for sample in samples)
        height = max(sample["visible"].shape[1] for sample in samples)
        width = max(sample["visible"].shape[2] for sample in samples)
        counts = torch.zeros(len(samples), length, device=device)
        for number, sample in enumerate(samples):
            counts[number, : len(sample["visible"])] = 1

        def joined(name: str) -> Tensor:
            first = samples[0][name]
            whole = torch.zeros(len(samples), length, *first.shape[1:-2], height, width)
            for number, sample in enumerate(samples):
                part = sample[name]
                whole[number, : len(part), ..., : part.shape[-2], : part.shape[-1]] = part
                whole[number, len(part) :] = whole[number, len(part) - 1]
            return whole.to(device)

        labelled = all("amodal" in sample for sample in samples)
        return cls(
            frames=joined("frames") / 255,
            visible=joined("visible"),
            others=joined("others"),
            forward_flow=joined("forward_flow"),
            backward_flow=joined("backward_flow"),
            counts=counts,
            amodal=joined("amodal") if labelled else None,
        )

    def labels(self, system: str) -> Tensor:
        """Return the amodal masks.

        Args:
            system: that needs them, for the message.

        Returns:
            Tensor[B, T, H, W]: float, 0 or 1.

        Raises:
            ValueError: if there are none.
        """
        if self.amodal is None:
            raise ValueError(
                f"{system}: expected amodal masks to learn from, got annotations without"
            )
        return self.amodal


def batch_windows(visible: Tensor, flow: Tensor, rule: CropRule) -> Tensor:
    """Choose the windows of B tracks.

    Args:
        visible (Tensor[B, T, H, W]): float, 0 or 1; each visible in some frame.
        flow (Tensor[B, T, 2, H, W]): to the next frame, in pixels.
        rule: how.

    Returns:
        Tensor[B, T, 4]: (top, left, bottom, right) in pixels of the region.
    """
    masks = visible.cpu().numpy() > 0
    motion = mean_motion(flow.flatten(0, 1), visible.flatten(0, 1)).unflatten(0, flow.shape[:2])
    steps = motion.flip(2).double().cpu().numpy()
    windows = [
        crop_windows(
            visible_windows(mask),
            rule,
            (mask.shape[1], mask.shape[2]),
            motion=step,
            areas=mask.sum(axis=(1, 2), dtype=np.float64),
        )
        for mask, step in zip(masks, steps, strict=True)
    ]
    return torch.from_numpy(np.stack(windows)).to(visible)
