"""Areas and intersections of run-length coded masks, without decoding them to pixels.

The texts are those of ``mask_rle``: one tensor of bytes for all masks, with the offset of each
(``pack_texts``). Letters: N masks, L characters of all texts together, T frames, D and G
tracks, H W pixels of the masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.ops._library import LIBRARY
from amodal2.ops._rle_text import (
    FIRST_CHAR,
    TEXT_FAULTS,
    check_size,
    check_texts,
    read_runs,
    text_owners,
)

LIBRARY.define("mask_rle_areas(Tensor text, Tensor offsets, Tensor pixels) -> Tensor")
LIBRARY.define(
    "mask_rle_intersections(Tensor text, Tensor offsets, Tensor other_text, Tensor other_offsets, "
    "int frames, SymInt[] size) -> Tensor"
)


def mask_rle_areas(text: Tensor, offsets: Tensor, pixels: Tensor) -> Tensor:
    """Check texts and count the foreground pixels of their masks.

    Args:
        text (Tensor[L]): uint8.
        offsets (Tensor[N + 1]): int64.
        pixels (Tensor[N]): int64; H * W that the runs of each mask must fill.

    Returns:
        Tensor[N]: int64; -1 where a text is damaged, or that of a mask of another size.

    Raises:
        TypeError: if a tensor has another type.
        ValueError: if the tensors do not fit together.

    Note:
        The CPU kernel divides the masks among threads and is deterministic; there is no CUDA
        kernel. Nothing is differentiable. N = 0 is legal.
    """
    return torch.ops.amodal2.mask_rle_areas(text, offsets, pixels)


def mask_rle_intersections(
    text: Tensor,
    offsets: Tensor,
    other_text: Tensor,
    other_offsets: Tensor,
    frames: int,
    size: Sequence[int],
) -> Tensor:
    """Count the pixels that the masks of two sets of tracks share in each frame.

    Args:
        text (Tensor[L]): uint8; D * T texts, those of a track one after the other. A text without
            characters stands for an empty mask.
        offsets (Tensor[D * T + 1]): int64.
        other_text (Tensor[M]): the same for the G other tracks.
        other_offsets (Tensor[G * T + 1]): int64.
        frames (int): T, at least 1.
        size (Sequence[int]): H and W of all masks.

    Returns:
        Tensor[T, D, G]: int64.

    Raises:
        TypeError: if a tensor has another type.
        ValueError: if the tensors do not fit together, or a text is damaged or that of a mask of
            another size.

    Note:
        The CPU kernel passes over pairs whose boxes do not touch, divides the frames among threads
        and is deterministic; there is no CUDA kernel. Nothing is differentiable. D and G may be 0.
    """
    return torch.ops.amodal2.mask_rle_intersections(
        text, offsets, other_text, other_offsets, frames, size
    )


def _check_areas(text: Tensor, offsets: Tensor, pixels: Tensor) -> None:
    name = "mask_rle_areas"
    check_texts(name, text, offsets)
    if pixels.dtype != torch.int64:
        raise TypeError(f"{name}: expected pixels of type {torch.int64}, got {pixels.dtype}")
    if pixels.shape != (len(offsets) - 1,):
        raise ValueError(
            f"{name}: expected pixels of sizes [{len(offsets) - 1}], got {list(pixels.shape)}"
        )


@torch.library.impl(LIBRARY, "mask_rle_areas", "CompositeExplicitAutograd")
def _areas_reference(text: Tensor, offsets: Tensor, pixels: Tensor) -> Tensor:
    """Make damaged texts harmless, then sum the runs of all masks and every second one."""
    name = "mask_rle_areas"
    _check_areas(text, offsets, pixels)
    owner = text_owners(name, text, offsets)
    broken = torch.zeros(len(pixels), dtype=torch.bool, device=text.device)
    for find in TEXT_FAULTS.values():
        broken[find(text, offsets, owner)] = True
        text = torch.where(broken[owner], FIRST_CHAR, text)
    runs, owner, place = read_runs(name, text, offsets, negative=True)
    zeros = torch.zeros_like(pixels)
    broken |= zeros.index_add(0, owner, runs) != pixels
    broken |= zeros.index_add(0, owner, (runs < 0).long()) > 0
    areas = zeros.index_add(0, owner, torch.where(place % 2 == 1, runs, 0))
    return torch.where(broken, -1, areas)


def _check_intersections(
    text: Tensor,
    offsets: Tensor,
    other_text: Tensor,
    other_offsets: Tensor,
    frames: int,
    size: Sequence[int],
) -> None:
    name = "mask_rle_intersections"
    check_texts(name, text, offsets)
    check_texts(name, other_text, other_offsets)
    check_size(name, "size", size)
    counts = len(offsets) - 1, len(other_offsets) - 1
    if frames < 1 or counts[0] % frames or counts[1] % frames:
        raise ValueError(
            f"{name}: expected numbers of texts that frames divides, got {counts[0]} and "
            f"{counts[1]} texts and {frames} frames"
        )


@torch.library.impl(LIBRARY, "mask_rle_intersections", "CompositeExplicitAutograd")
def _intersections_reference(
    text: Tensor,
    offsets: Tensor,
    other_text: Tensor,
    other_offsets: Tensor,
    frames: int,
    size: Sequence[int],
) -> Tensor:
    """Look up how many foreground pixels of another mask lie before both ends of each run."""
    _check_intersections(text, offsets, other_text, other_offsets, frames, size)
    pixels = size[0] * size[1]
    starts, ends, owner = _foreground(text, offsets, pixels)
    other_starts, other_ends, other = _foreground(other_text, other_offsets, pixels)
    # Every other mask has a line of its own among the positions.
    other_starts, other_ends = other_starts + other * pixels, other_ends + other * pixels
    before = F.pad((other_ends - other_starts).cumsum(0), (1, 0))
    other_ends = F.pad(other_ends, (1, 0))

    def foreground_before(position: Tensor) -> Tensor:
        run = torch.searchsorted(other_starts, position)
        return before[run] - (other_ends[run] - position).clamp(min=0)

    tracks, others = (len(offsets) - 1) // frames, (len(other_offsets) - 1) // frames
    found = torch.zeros(others, tracks * frames, dtype=torch.int64, device=text.device)
    for g in range(others):
        line = (g * frames + owner % frames) * pixels
        found[g].index_add_(
            0, owner, foreground_before(line + ends) - foreground_before(line + starts)
        )
    return found.view(others, tracks, frames).permute(2, 1, 0).contiguous()


def _foreground(text: Tensor, offsets: Tensor, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return start, end and mask of all runs of foreground; a text may have no characters."""
    name = "mask_rle_intersections"
    runs, owner, place = read_runs(name, text, offsets)
    count = len(offsets) - 1
    totals = owner.new_zeros(count).index_add_(0, owner, runs)
    wrong = (totals != pixels) & (offsets.diff() > 0)
    if bool(wrong.any()):
        index = int(wrong.nonzero()[0])
        raise ValueError(
            f"{name}: expected RLE runs that fill the frame, got {int(totals[index])} instead of "
            f"{pixels} pixels (mask {index})"
        )
    ends = runs.cumsum(0)
    ends = ends - F.pad(totals.cumsum(0), (1, 0))[owner]
    chosen = (place % 2 == 1) & (runs > 0)
    return (ends - runs)[chosen], ends[chosen], owner[chosen]


@torch.library.register_fake("amodal2::mask_rle_areas", lib=LIBRARY)
def _areas_fake(text: Tensor, offsets: Tensor, pixels: Tensor) -> Tensor:
    _check_areas(text, offsets, pixels)
    return torch.empty_like(pixels)


@torch.library.register_fake("amodal2::mask_rle_intersections", lib=LIBRARY)
def _intersections_fake(
    text: Tensor,
    offsets: Tensor,
    other_text: Tensor,
    other_offsets: Tensor,
    frames: int,
    size: Sequence[int],
) -> Tensor:
    _check_intersections(text, offsets, other_text, other_offsets, frames, size)
    shape = frames, (offsets.shape[0] - 1) // frames, (other_offsets.shape[0] - 1) // frames
    return offsets.new_empty(shape)
