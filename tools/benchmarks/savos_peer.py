"""The official call pattern of SaVos, with stock functions around our modules' weights.

Everything after the networks is as large as the video's frames: each patch is padded to the frame
with ``F.pad`` and put in its place by ``F.affine_grid`` and ``F.grid_sample``, every warp makes a
grid of the frame and calls ``F.grid_sample``, and losses add up all pixels of all frames; the
directions of time run one after the other, and so do the objects of a video (``models/savos.py``
and ``utils`` of the official code; shared/reference/savos.md, sections 2 and 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.modeling.completion.track_batch import TrackBatch
from amodal2.modeling.savos import SaVos
from amodal2.modeling.savos.network import Direction, TrackInput, merge_frames
from amodal2.modeling.savos.patches import build_input


class OfficialSavos(SaVos):
    """SaVos on whole frames; the arguments are those of ``SaVos``."""

    def both_directions(self, tracks: TrackInput) -> tuple[Direction, Direction]:
        """Run one direction after the other."""
        return self.one_direction(tracks), self.one_direction(tracks.reversed())

    def paste(self, patches: Tensor, windows: Tensor, size: torch.Size) -> Tensor:
        """Put patches into frames of zeros, see ``SavosNetwork.paste``."""
        height, width = patches.shape[2:]
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        sides = [left, size[1] - width - left, top, size[0] - height - top]
        low, high = windows[:, :2], windows[:, 2:]
        extent = torch.tensor(size, device=windows.device)
        scale = torch.tensor([height, width], device=windows.device) / (high - low).abs().clamp(1)
        shift = scale * (1 - (low + high) / extent)
        theta = patches.new_zeros(len(patches), 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = scale[:, 1], scale[:, 0]
        theta[:, 0, 2], theta[:, 1, 2] = shift[:, 1], shift[:, 0]
        grid = F.affine_grid(theta, [len(patches), 1, *size], align_corners=False)
        return F.grid_sample(F.pad(patches, sides), grid, align_corners=False)

    def warp(self, values: Tensor, motion: Tensor) -> Tensor:
        """Read values where the motion read at the destination comes from."""
        height, width = values.shape[2:]
        rows = torch.arange(height, device=values.device)[:, None].expand(height, width)
        columns = torch.arange(width, device=values.device)[None].expand(height, width)
        extent = motion.new_tensor([width, height])
        places = torch.stack([columns, rows], dim=-1) - motion.permute(0, 2, 3, 1)
        grid = 2 * (places / extent - 0.5)
        return F.grid_sample(values, grid, padding_mode="border", align_corners=False)


def complete_official(model: OfficialSavos, tracks: Sequence[TrackBatch]) -> list[Tensor]:
    """Complete objects one by one.

    Args:
        model: in evaluation mode.
        tracks: of one object each, as large as the frames.

    Returns:
        list[Tensor[T, H, W]]: probabilities, on the host.
    """
    found = []
    for one in tracks:
        given = build_input(
            one.frames, one.visible, one.forward_flow, one.backward_flow, model.rule
        )
        found.append(merge_frames(*model.both_directions(given))[0].cpu())
    return found
