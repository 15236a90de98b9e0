"""The networks of SaVos, the motion of masks, and the merge of both directions.

Letters: B tracks, T frames, (H, W) region of the video that the tracks are followed in. A
prediction "of frame t" is made from frame t and moved to frame t + 1 of its own direction of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amodal2.modeling.completion.crops import paste_patches
from amodal2.modeling.savos.embedding import SpatioTemporalEncoder
from amodal2.modeling.savos.mask_completer import MaskCompleter
from amodal2.modeling.savos.motion_predictor import MotionPredictor
from amodal2.modeling.savos.presets import SavosOptions
from amodal2.ops import mask_warp

RGB, VISIBLE, FORWARD, BACKWARD = slice(0, 3), 3, slice(4, 6), slice(6, 8)
"""Channels of a patch."""


@dataclass
class TrackInput:
    """B tracks as the network takes them; tensors on one device.

    Attributes:
        patches (Tensor[B, T, 8, 64, 128]): RGB in [0, 1], visible mask, forward and backward flow
            (x, y) in pixels of the region.
        windows (Tensor[B, T, 4]): (top, left, bottom, right) of the patches in the region.
        visible (Tensor[B, T, H, W]): float, 0 or 1.
        forward_flow (Tensor[B, T, 2, H, W]): to the next frame, in pixels.
        backward_flow (Tensor[B, T, 2, H, W]): to the frame before, in pixels.
    """

    patches: Tensor
    windows: Tensor
    visible: Tensor
    forward_flow: Tensor
    backward_flow: Tensor

    def reversed(self) -> TrackInput:
        """Return the tracks in reversed time."""
        order = [*range(4), 6, 7, 4, 5]
        return TrackInput(
            self.patches[:, :, order].flip(1),
            self.windows.flip(1),
            self.visible.flip(1),
            self.backward_flow.flip(1),
            self.forward_flow.flip(1),
        )

    def joined(self, other: TrackInput) -> TrackInput:
        """Return the tracks of both, one after the other."""
        return TrackInput(
            torch.cat([self.patches, other.patches]),
            torch.cat([self.windows, other.windows]),
            torch.cat([self.visible, other.visible]),
            torch.cat([self.forward_flow, other.forward_flow]),
            torch.cat([self.backward_flow, other.backward_flow]),
        )


@dataclass
class Direction:
    """What one direction of time gives, in its own order of frames.

    Attributes:
        still (Tensor[B, T, H, W]): probability of the whole object in frame t.
        moved (Tensor[B, T, 2, H, W]): probability and alpha logit, moved to frame t + 1.
        motion (Tensor[B, T, 2, H, W]): the predicted motion (x, y) in pixels.
    """

    still: Tensor
    moved: Tensor
    motion: Tensor

    def reversed(self) -> Direction:
        """Return it in reversed time."""
        return Direction(self.still.flip(1), self.moved.flip(1), self.motion.flip(1))

    def parted(self, count: int) -> tuple[Direction, Direction]:
        """Return the first tracks, as many as are asked for, and the others."""
        return (
            Direction(self.still[:count], self.moved[:count], self.motion[:count]),
            Direction(self.still[count:], self.moved[count:], self.motion[count:]),
        )


class SavosNetwork(nn.Module):
    """SaVos (Yao et al., 2022) without its losses; parameter names are the official ones."""

    def __init__(self, base: int = 32, options: SavosOptions | None = None) -> None:
        """Build the network.

        Args:
            base: channels of the first block, even; 32 in the paper (17,303,124 parameters).
            options: where code and paper differ; None follows the paper.
        """
        super().__init__()
        self.options = options or SavosOptions()
        self.st_encoder = SpatioTemporalEncoder(base)
        self.mask_decoder = MaskCompleter(base)
        self.flow_decoder = MotionPredictor(base)

    def both_directions(self, tracks: TrackInput) -> tuple[Direction, Direction]:
        """Run forwards and backwards with the same weights, as one batch.

        Args:
            tracks: the tracks.

        Returns:
            tuple[Direction, Direction]: forward, and reverse in reversed time.
        """
        found = self.one_direction(tracks.joined(tracks.reversed()))
        return found.parted(len(tracks.patches))

    def one_direction(self, tracks: TrackInput) -> Direction:
        """Predict amodal masks and motion, and move the masks (Sec. 3.1, Eq. 2 and 12).

        Args:
            tracks: the tracks, in the order of time to be run.

        Returns:
            Direction: in that order.
        """
        shape, size = tracks.patches.shape[:2], tracks.visible.shape[2:]
        patches = tracks.patches[:, :, : FORWARD.stop]
        embedding = self.st_encoder(patches).flatten(0, 1)
        flat = patches.flatten(0, 1)
        channel = self.options.mask_input_channel
        decoded = self.mask_decoder(embedding, flat[:, channel : channel + 1])
        residual = self.flow_decoder(embedding, flat[:, FORWARD])
        whole = self.paste(torch.cat([decoded, residual], 1), tracks.windows.flatten(0, 1), size)
        motion = self.base_motion(tracks.forward_flow, tracks.visible).flatten(0, 1) + whole[:, 2:]
        moved = self.warp(whole[:, :2], motion)
        return Direction(
            whole[:, 0].unflatten(0, shape), moved.unflatten(0, shape), motion.unflatten(0, shape)
        )

    def paste(self, patches: Tensor, windows: Tensor, size: torch.Size) -> Tensor:
        """Put patches back into the region.

        Args:
            patches (Tensor[N, C, 64, 128]): any values.
            windows (Tensor[N, 4]): where they were cut out.
            size: (H, W).

        Returns:
            Tensor[N, C, H, W]: 0 elsewhere.
        """
        height, width = patches.shape[2:]
        shift = (0.0, 0.0)
        if self.options.centred_paste:
            shift = ((size[0] - height) % 2 / 2, (size[1] - width) % 2 / 2)
        return paste_patches(patches, windows, (size[0], size[1]), shift)

    def base_motion(self, flow: Tensor, visible: Tensor) -> Tensor:
        """Return the motion that the residual is added to.

        Args:
            flow (Tensor[B, T, 2, H, W]): observed, in pixels.
            visible (Tensor[B, T, H, W]): float, 0 or 1.

        Returns:
            Tensor[B, T, 2, H, W]: in pixels.
        """
        seen = visible[:, :, None]
        count = seen.sum(dim=(3, 4), keepdim=True)
        mean = (flow * seen).sum(dim=(3, 4), keepdim=True) / count.clamp(min=1)
        mean = torch.where(count > 0, mean, self.options.empty_mean)
        if self.options.observed_base:
            return torch.where(seen > 0, flow, mean)
        return mean.expand_as(flow)

    def warp(self, values: Tensor, motion: Tensor) -> Tensor:
        """Move values along a motion.

        Args:
            values (Tensor[N, C, H, W]): any values.
            motion (Tensor[N, 2, H, W]): (x, y) in pixels.

        Returns:
            Tensor[N, C, H, W]: with "backward" the motion is read where the values arrive.
        """
        options = self.options
        if options.warp == "splat":
            return mask_warp(
                values,
                motion,
                mode="splat",
                padding=options.padding,
                offset=options.offset,
                normalize="average",
            )
        return mask_warp(values, -motion, padding=options.padding, offset=options.offset)


def merge_alpha(forward: Tensor, reverse: Tensor) -> Tensor:
    """Mix two predictions of the same frames by the softmax of their alphas (Eq. 8).

    Args:
        forward (Tensor[B, T, 2, H, W]): probability and logit.
        reverse (Tensor[B, T, 2, H, W]): the same; a logit of -inf takes no part.

    Returns:
        Tensor[B, T, H, W]: probability.
    """
    share = (forward[:, :, 1] - reverse[:, :, 1]).sigmoid()
    return share * forward[:, :, 0] + (1 - share) * reverse[:, :, 0]


def merge_for_losses(forward: Direction, reverse: Direction) -> Tensor:
    """Merge both directions for training, as the released code does.

    Args:
        forward: T frames.
        reverse: the same in reversed time.

    Returns:
        Tensor[B, T, H, W]: entry t is of frame t + 1; the last two have no reverse prediction of
        their own frame.
    """
    back = reverse.moved.flip(1)
    shifted = torch.cat([back[:, 2:], back[:, -2:]], dim=1)[:, : back.shape[1]]
    return merge_alpha(forward.moved, shifted)


def merge_frames(forward: Direction, reverse: Direction) -> Tensor:
    """Merge both directions for all frames; the first and the last have one direction only.

    Args:
        forward: T frames.
        reverse: the same in reversed time.

    Returns:
        Tensor[B, T, H, W]: entry t is of frame t; for T = 1 the mask that was not moved.
    """
    if forward.still.shape[1] == 1:
        return forward.still
    back = reverse.moved.flip(1)
    first = torch.cat([back[:, 1:2], forward.moved[:, :-1]], dim=1)
    second = torch.cat([back[:, 1:], forward.moved[:, -2:-1]], dim=1)
    return merge_alpha(first, second)
