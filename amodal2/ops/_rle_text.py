"""The text form of run lengths (see ``mask_rle``): packing, checks, and reading in PyTorch.

Letters: N masks, L characters of all texts together, R runs of all masks together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

GROUP_BITS = 5
MOST_GROUPS = 7  # of a number, which keeps masks below 2^34 pixels
FIRST_CHAR = 48
_MOST_PIXELS = 2**34


def join_texts(counts: Sequence[str | bytes]) -> tuple[bytes, np.ndarray]:
    """Put texts one after the other.

    Args:
        counts (Sequence[str | bytes]): N texts; what is not ASCII becomes bytes that no mask has.

    Returns:
        tuple[bytes, ndarray[N]]: all characters, and how many each text has (int32).
    """
    texts: Sequence[str | bytes] = counts
    try:
        joined = "".join(counts).encode("ascii")  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError):
        encoded = [
            one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one for one in counts
        ]
        texts, joined = encoded, b"".join(encoded)
    return joined, np.fromiter(map(len, texts), np.int32, len(texts))


def text_tensors(text: bytes, lengths: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return joined texts as the ops take them.

    Args:
        text (bytes): of L characters.
        lengths (ndarray[N]): characters of each.

    Returns:
        tuple[Tensor[L], Tensor[N + 1]]: the bytes (uint8), and the offset at which each text starts
        (int64), on the CPU.
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    chars = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(0).byte()
    return chars, torch.from_numpy(offsets)


def pack_texts(counts: Sequence[str | bytes]) -> tuple[Tensor, Tensor]:
    """Join texts and return them as the ops take them, see :func:`join_texts`.

    Args:
        counts (Sequence[str | bytes]): N texts.

    Returns:
        tuple[Tensor[L], Tensor[N + 1]]: as from :func:`text_tensors`.
    """
    return text_tensors(*join_texts(counts))


def check_pair(name: str, label: str, pair: Sequence[int]) -> None:
    """Raise ValueError unless there are two numbers of at least 0.

    Args:
        name (str): of the op, for messages.
        label (str): of the argument.
        pair (Sequence[int]): the argument.
    """
    if len(pair) != 2 or pair[0] < 0 or pair[1] < 0:
        raise ValueError(f"{name}: expected {label} as two numbers of at least 0, got {list(pair)}")


def check_texts(name: str, text: Tensor, offsets: Tensor) -> None:
    """Raise ValueError or TypeError unless two tensors can be the texts of masks.

    Args:
        name (str): of the op, for messages.
        text (Tensor): should be Tensor[L] of uint8.
        offsets (Tensor): should be Tensor[N + 1] of int64 on the same device.
    """
    for label, tensor, dtype in (("text", text, torch.uint8), ("offsets", offsets, torch.int64)):
        if tensor.dim() != 1:
            raise ValueError(f"{name}: expected {label} of rank 1, got {list(tensor.shape)}")
        if tensor.dtype != dtype:
            raise TypeError(f"{name}: expected {label} of type {dtype}, got {tensor.dtype}")
    if text.device != offsets.device:
        raise ValueError(
            f"{name}: expected offsets on {text.device} like text, got {offsets.device}"
        )
    if not offsets.shape[0]:
        raise ValueError(f"{name}: expected N + 1 offsets, got none")


def check_size(name: str, label: str, size: Sequence[int]) -> None:
    """Raise ValueError unless masks can have this size.

    Args:
        name (str): of the op, for messages.
        label (str): of the argument.
        size (Sequence[int]): should be height and width in pixels.
    """
    check_pair(name, label, size)
    if size[0] * size[1] >= _MOST_PIXELS:
        raise ValueError(f"{name}: expected {label} with fewer than 2^34 pixels, got {list(size)}")


def read_runs(
    name: str, text: Tensor, offsets: Tensor, *, negative: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Read the runs of all masks at once; the reference of what the kernels do.

    Args:
        name (str): of the op, for messages.
        text (Tensor[L]): uint8.
        offsets (Tensor[N + 1]): int64.
        negative (bool): let runs of less than 0 pixels pass.

    Returns:
        tuple[Tensor[R], Tensor[R], Tensor[R]]: int64: length, mask and place in the mask of each
        run.

    Raises:
        ValueError: if the offsets do not fit or a text is none of run lengths.
    """
    owner = text_owners(name, text, offsets)
    for expected, find in TEXT_FAULTS.items():
        _complain(name, find(text, offsets, owner), expected)
    numbers, owner = _read_numbers(text, owner)
    amount = owner.new_zeros(len(offsets) - 1).index_add_(0, owner, torch.ones_like(owner))
    first = (amount.cumsum(0) - amount)[owner]
    place = torch.arange(len(numbers), device=text.device) - first
    runs = numbers.clone()
    for parity in (0, 1):  # running sums over every second number of each mask, without the first
        chain = (place % 2 == parity) & (place > 0)
        sums = torch.where(chain, numbers, 0).cumsum(0)
        start = torch.cat([sums.new_zeros(1), sums])[first]
        runs = torch.where(chain, sums - start, runs)
    if not negative:
        _complain(name, owner[runs < 0], "runs of at least 0 pixels, got a negative one")
    return runs, owner, place


def text_owners(name: str, text: Tensor, offsets: Tensor) -> Tensor:
    """Return the mask of each character.

    Args:
        name (str): of the op, for messages.
        text (Tensor[L]): uint8.
        offsets (Tensor[N + 1]): int64.

    Returns:
        Tensor[L]: int64.

    Raises:
        ValueError: if the offsets do not rise from 0 to L.
    """
    lengths = offsets.diff()
    if int(offsets[0]) or int(offsets[-1]) != len(text) or bool((lengths < 0).any()):
        raise ValueError(
            f"{name}: expected offsets that rise from 0 to the {len(text)} characters of text, got "
            "other ones"
        )
    return torch.arange(len(lengths), device=text.device).repeat_interleave(lengths)


def _find_foreign(text: Tensor, offsets: Tensor, owner: Tensor) -> Tensor:
    return owner[(text < FIRST_CHAR) | (text > FIRST_CHAR + 63)]


def _find_cut(text: Tensor, offsets: Tensor, owner: Tensor) -> Tensor:
    final = offsets[1:][offsets.diff() > 0] - 1
    return owner[final[text[final] >= FIRST_CHAR + 32]]


def _find_long(text: Tensor, offsets: Tensor, owner: Tensor) -> Tensor:
    ends = (text < FIRST_CHAR + 32).nonzero().flatten()
    groups = ends.diff(prepend=ends.new_full((1,), -1))
    return owner[ends[groups > MOST_GROUPS]]


TEXT_FAULTS = {
    "RLE counts of the characters '0' to 'o', got another": _find_foreign,
    "complete RLE counts, got a text cut inside a number": _find_cut,
    "runs below 2^34, got a longer number": _find_long,
}
"""What is expected and found -> function of text, offsets and owners: the masks of which that is
true. A function may be asked only about texts without the faults before."""


def _read_numbers(text: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers [R] as they are written and the mask of each, given that of each char."""
    values = text.long() - FIRST_CHAR
    ends = (values < 32).nonzero().flatten()
    groups = ends.diff(prepend=ends.new_full((1,), -1))
    number = torch.arange(len(ends), device=text.device).repeat_interleave(groups)
    group = torch.arange(len(text), device=text.device) - (ends - groups + 1)[number]
    digits = (values & 31) << (GROUP_BITS * group)
    numbers = torch.zeros_like(ends).index_add_(0, number, digits)
    negative = (values[ends] & 16) > 0
    return numbers - (negative.long() << (GROUP_BITS * groups)), owner[ends]


def _complain(name: str, owners: Tensor, expected: str) -> None:
    """Raise ValueError with the first of the masks in which something was found."""
    if len(owners):
        raise ValueError(f"{name}: expected {expected} (mask {int(owners[0])})")
