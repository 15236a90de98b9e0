"""Run-length coding of masks in COCO's compressed form, the same bytes as pycocotools.

A mask is read column by column; the lengths of its alternating runs of background and foreground,
beginning with background, become a text: a number is written in groups of five bits, the lowest
first, one character (code 48 + group) each; 32 is added where more groups follow, and 16 in the
last group is the sign. From the fourth number on, the difference to the number two places before is
written.

The texts of several masks are one tensor of bytes, with the offset at which each one starts.
Letters: N masks, H W pixels of the masks, L characters of all texts together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.ops._library import LIBRARY
from amodal2.ops._rle_text import (
    FIRST_CHAR,
    GROUP_BITS,
    MOST_GROUPS,
    check_pair,
    check_size,
    check_texts,
    pack_texts,
    read_runs,
)

LIBRARY.define("mask_rle(Tensor masks, SymInt[] frame, SymInt[] origin) -> (Tensor, Tensor)")
LIBRARY.define("mask_rle_decode(Tensor text, Tensor offsets, SymInt[] size) -> Tensor")


def mask_rle(
    masks: Tensor, *, frame: tuple[int, int] | None = None, origin: tuple[int, int] = (0, 0)
) -> list[dict[str, Any]]:
    """Encode masks, or boxes cut out of masks that are empty elsewhere.

    Args:
        masks (Tensor[N, H, W]): bool or uint8; everything but 0 is foreground.
        frame (tuple[int, int] | None): height and width in pixels of the masks that are encoded;
            None: those of ``masks``.
        origin (tuple[int, int]): row and column of the frame at which ``masks`` begin.

    Returns:
        list[dict]: N times ``{"size": [height, width], "counts": str}``; the characters of
        ``counts`` are the bytes that ``pycocotools.mask.encode`` gives for 0/1 masks.

    Raises:
        TypeError: if ``masks`` is neither bool nor uint8.
        ValueError: if ``masks`` has another rank or does not fit into the frame, or the frame has
            2^34 pixels or more.

    Note:
        ``torch.ops.amodal2.mask_rle(masks, frame, origin)`` returns tensors: the bytes of all texts
        Tensor[L] (uint8) and their offsets Tensor[N + 1] (int64), both on the device of ``masks``;
        L depends on the data. There is no CUDA kernel: for CUDA masks the PyTorch reference finds
        the runs and writes the text on the device, and only the text is copied from it. The CPU
        kernel divides the masks among threads and is deterministic. It reads masks that lie in
        memory row by row or column by column as they are; other ones are copied first. N, H and W
        may be 0. Nothing is differentiable.
    """
    if masks.dim() != 3:
        raise ValueError(f"mask_rle: expected masks [N, H, W], got {list(masks.shape)}")
    height, width = frame or (masks.shape[1], masks.shape[2])
    text, offsets = torch.ops.amodal2.mask_rle(masks, (height, width), origin)
    chars = text.cpu().numpy().data
    return [
        {"size": [height, width], "counts": str(chars[start:stop], "ascii")}
        for start, stop in pairwise(offsets.tolist())
    ]


def mask_rle_decode(
    rles: Sequence[Mapping[str, Any]], size: tuple[int, int] | None = None
) -> Tensor:
    """Decode masks of the same size; damaged ones are found, whatever they hold.

    Args:
        rles (Sequence[Mapping]): N times ``{"size": [H, W], "counts": str or bytes}``.
        size (tuple[int, int] | None): height and width that all have; None: those of the first.

    Returns:
        Tensor[N, H, W]: bool, contiguous, on the CPU.

    Raises:
        ValueError: if ``rles`` is empty and there is no ``size``, a mask has another size, or its
            counts do not describe H W pixels.

    Note:
        ``torch.ops.amodal2.mask_rle_decode(text, offsets, size)`` takes the two tensors of
        ``torch.ops.amodal2.mask_rle`` and returns masks on their device.
    """
    if size is None:
        if not rles:
            raise ValueError("mask_rle_decode: expected at least one mask or a size, got neither")
        size = rles[0]["size"][0], rles[0]["size"][1]
    for index, rle in enumerate(rles):
        if tuple(rle["size"]) != tuple(size):
            raise ValueError(
                f"mask_rle_decode: expected size {list(size)}, got {list(rle['size'])} "
                f"(mask {index})"
            )
    text, offsets = pack_texts([rle["counts"] for rle in rles])
    return torch.ops.amodal2.mask_rle_decode(text, offsets, size)


def _check_masks(masks: Tensor, frame: Sequence[int], origin: Sequence[int]) -> None:
    """Raise ValueError or TypeError unless the arguments of ``mask_rle`` fit together."""
    if masks.dim() != 3:
        raise ValueError(f"mask_rle: expected masks [N, H, W], got {list(masks.shape)}")
    if masks.dtype not in (torch.bool, torch.uint8):
        raise TypeError(f"mask_rle: expected masks of type bool or uint8, got {masks.dtype}")
    check_size("mask_rle", "frame", frame)
    check_pair("mask_rle", "origin", origin)
    height, width = masks.shape[1:]
    if origin[0] + height > frame[0] or origin[1] + width > frame[1]:
        raise ValueError(
            f"mask_rle: expected masks of {height} x {width} pixels inside the frame "
            f"{list(frame)}, got origin {list(origin)}"
        )


@torch.library.impl(LIBRARY, "mask_rle", "CompositeExplicitAutograd")
def _encode_reference(
    masks: Tensor, frame: Sequence[int], origin: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Find where neighbouring pixels differ and write the distances of these places."""
    _check_masks(masks, frame, origin)
    (height, width), (top, left), pixels = frame, origin, frame[0] * frame[1]
    gap = int(masks.shape[1] < height)  # a row of background keeps lower columns apart
    rows = masks.shape[1] + gap
    line = F.pad((masks != 0).transpose(1, 2), (0, gap)).flatten(1)
    line = F.pad(line, (1, 1))
    changes = line[:, 1:] != line[:, :-1]
    end = changes.shape[1]  # stands for the end of the frame, where every mask's last run ends
    if (top + masks.shape[1], left + masks.shape[2]) == (height, width):
        changes[:, end - 1 - gap :] = False
    step = F.pad(changes, (0, 1), value=True).nonzero()[:, 1]
    column, row = step // max(rows, 1), step % max(rows, 1)
    place = torch.where(step == end, pixels, (left + column) * height + top + row)
    last = (step == end).nonzero()[:, 0]
    first = torch.cat([last.new_zeros(1), last + 1])[:-1]
    runs = place.diff(prepend=place.new_zeros(1))
    runs[first] = place[first]
    return _write_numbers(runs, first, last)


def _write_numbers(runs: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return the texts of runs [R]; those of mask i are ``first[i]`` to ``last[i]``."""
    device = runs.device
    before = F.pad(runs, (2, 0))[: len(runs)]
    # Three numbers are written as they are; behind a mask with fewer runs, the next one begins.
    whole = first[:, None] + torch.arange(3, device=device)
    before[whole.clamp(max=len(runs) - 1)] = 0
    numbers = runs - before
    bits = range(GROUP_BITS - 1, GROUP_BITS * (MOST_GROUPS - 1), GROUP_BITS)
    limits = torch.tensor([2**bit for bit in bits], device=device)
    groups = torch.bucketize(numbers ^ (numbers >> 63), limits, right=True) + 1
    group = torch.arange(int(groups.max()) if len(groups) else 0, device=device)
    chars = (numbers[:, None] >> (GROUP_BITS * group)) & 31
    chars += 32 * (group + 1 < groups[:, None]) + FIRST_CHAR
    offsets = F.pad(groups.cumsum(0)[last], (1, 0))
    return chars[group < groups[:, None]].byte(), offsets


@torch.library.impl(LIBRARY, "mask_rle_decode", "CompositeExplicitAutograd")
def _decode_reference(text: Tensor, offsets: Tensor, size: Sequence[int]) -> Tensor:
    """Read all numbers at once, add up the differences and repeat 0 and 1 by the runs."""
    name = "mask_rle_decode"
    check_texts(name, text, offsets)
    check_size(name, "size", size)
    count, (height, width) = len(offsets) - 1, size
    runs, owner, place = read_runs(name, text, offsets)
    totals = torch.zeros(count, dtype=torch.int64, device=text.device).index_add_(0, owner, runs)
    wrong = totals != height * width
    if bool(wrong.any()):
        index = int(wrong.nonzero()[0])
        raise ValueError(
            f"{name}: expected RLE runs that sum to {height * width} pixels, got "
            f"{int(totals[index])}; the text is truncated or damaged (mask {index})"
        )
    pixels = (place % 2 == 1).repeat_interleave(runs)
    return pixels.view(count, width, height).transpose(1, 2).contiguous()


@torch.library.register_fake("amodal2::mask_rle", lib=LIBRARY)
def _encode_fake(
    masks: Tensor, frame: Sequence[int], origin: Sequence[int]
) -> tuple[Tensor, Tensor]:
    _check_masks(masks, frame, origin)
    length = torch.library.get_ctx().new_dynamic_size()
    text = masks.new_empty(length, dtype=torch.uint8)
    return text, masks.new_empty(masks.shape[0] + 1, dtype=torch.int64)


@torch.library.register_fake("amodal2::mask_rle_decode", lib=LIBRARY)
def _decode_fake(text: Tensor, offsets: Tensor, size: Sequence[int]) -> Tensor:
    check_texts("mask_rle_decode", text, offsets)
    check_size("mask_rle_decode", "size", size)
    return text.new_empty(offsets.shape[0] - 1, size[0], size[1], dtype=torch.bool)
