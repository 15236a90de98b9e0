"""Run lengths of many compressed RLE strings at once.

The C decoder of pycocotools reads past the end of a damaged string. Here the strings of a dataset
are checked and measured by the op ``mask_rle_areas``, with every way in which one can be broken
reported, so that data from outside can be checked before the C code sees it.

The text form: a number is written in groups of five bits, least significant first, one character
(code 48 + group) each; bit 32 marks that more groups follow and bit 16 of the last group is the
sign. From the fourth number on, the difference to the number two places earlier is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from amodal2.ops import join_texts, mask_rle_areas, text_tensors

_CHUNK_CHARS = 1 << 16
_CHUNK_STRINGS = 1 << 12
_MAX_GROUPS = 7  # 35 bits: more than any image needs
_FIRST_CHAR = 48


def decode_runs(counts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Parse valid compressed strings to run lengths.

    Args:
        counts (Sequence[str]): M valid strings (see :func:`find_invalid_counts`).

    Returns:
        tuple[ndarray[R], ndarray[M + 1]]: int64 run lengths of all strings one after the other, and
        the position at which each string starts.

    Raises:
        ValueError: if a string is broken.
    """
    broken = _find_broken_text(counts)
    if broken:
        index, problem = next(iter(broken.items()))
        raise ValueError(f"decode_runs: {problem} (string {index})")
    return _parse(counts)


def measure_counts(counts: Sequence[str], pixels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Count the foreground pixels of masks of unknown origin.

    Args:
        counts (Sequence[str]): M strings.
        pixels (Sequence[int]): H * W that the runs of each must fill.

    Returns:
        ndarray[M]: int64; -1 where a string does not describe a mask of that size.
    """
    areas = np.empty(len(counts), dtype=np.int64)
    for start in range(0, len(counts), _CHUNK_STRINGS):
        chunk = slice(start, start + _CHUNK_STRINGS)
        areas[chunk] = measure_text(*join_texts(counts[chunk]), np.asarray(pixels[chunk]))
    return areas


def measure_text(text: bytes, lengths: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Count the foreground pixels of masks of unknown origin, in joined form.

    Args:
        text (bytes): the strings, one after the other.
        lengths (ndarray[M]): characters of each.
        pixels (ndarray[M]): H * W that the runs of each must fill.

    Returns:
        ndarray[M]: int64; -1 where a string does not describe a mask of that size.
    """
    expected = torch.from_numpy(pixels.astype(np.int64))
    return mask_rle_areas(*text_tensors(text, lengths), expected).numpy()


def find_invalid_counts(counts: Sequence[str], pixels: Sequence[int]) -> dict[int, str]:
    """Find the compressed strings that do not describe a mask of the expected size.

    Args:
        counts (Sequence[str]): M strings.
        pixels (Sequence[int]): H * W that the runs of each must fill.

    Returns:
        dict[int, str]: position of each broken string -> "expected ..., got ...".
    """
    invalid = np.flatnonzero(measure_counts(counts, pixels) < 0).tolist()
    return {index: describe_invalid(counts[index], pixels[index]) for index in invalid}


def describe_invalid(counts: str, pixels: int) -> str:
    """Tell what is wrong with a string for which :func:`measure_counts` gives -1.

    Args:
        counts (str): the string.
        pixels (int): H * W that its runs must fill.

    Returns:
        str: "expected ..., got ...".
    """
    broken = _find_broken_text([counts])
    if broken:
        return broken[0]
    runs, _ = _parse([counts])
    got = "a negative run" if (runs < 0).any() else str(runs.sum())
    return (
        f"expected RLE runs that sum to {pixels} pixels, got {got}; the counts string is truncated "
        "or damaged"
    )


def contained(inner: Sequence[str], outer: Sequence[str], pixels: int) -> np.ndarray:
    """Tell for pairs of valid masks whether the first lies inside the second.

    Args:
        inner (Sequence[str]): M compressed strings.
        outer (Sequence[str]): M compressed strings of masks of the same size.
        pixels (int): at least H * W of every mask.

    Returns:
        ndarray[M]: bool.
    """
    inside = np.ones(len(inner), dtype=bool)
    for start, stop in _chunks(inner):
        inner_starts, inner_ends, pair = _segments(inner[start:stop], pixels)
        outer_starts, outer_ends, _ = _segments(outer[start:stop], pixels)
        if not len(inner_starts):
            continue
        if not len(outer_starts):
            inside[start + pair] = False
            continue
        holder = np.searchsorted(outer_starts, inner_starts, side="right") - 1
        held = (holder >= 0) & (outer_ends[np.maximum(holder, 0)] >= inner_ends)
        inside[start + pair[~held]] = False
    return inside


def _segments(counts: Sequence[str], pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return start, end (exclusive) and mask index of all maximal foreground runs.

    Mask i occupies the positions from ``i * (pixels + 1)``, so that runs of two masks never touch.
    """
    runs, offsets = _parse(counts)
    owner = np.repeat(np.arange(len(counts)), np.diff(offsets))
    ends = np.cumsum(runs)
    ends -= np.concatenate([[0], ends])[offsets[:-1]][owner] - owner * (pixels + 1)
    chosen = (_places(offsets, len(runs)) % 2 == 1) & (runs > 0)
    ends, starts, owner = ends[chosen], (ends - runs)[chosen], owner[chosen]
    joined = np.flatnonzero(starts[1:] == ends[:-1])
    return np.delete(starts, joined + 1), np.delete(ends, joined), np.delete(owner, joined + 1)


def _chunks(counts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Cut the strings into ranges that fit into a processor's cache."""
    start, chars = 0, 0
    for index, text in enumerate(counts):
        chars += len(text)
        if chars >= _CHUNK_CHARS:
            yield start, index + 1
            start, chars = index + 1, 0
    if start < len(counts):
        yield start, len(counts)


def _places(offsets: np.ndarray, total: int) -> np.ndarray:
    """Return the place of each run inside its own string."""
    return np.arange(total) - np.repeat(offsets[:-1], np.diff(offsets))


def _find_broken_text(counts: Sequence[str]) -> dict[int, str]:
    """Find strings with foreign characters, an unfinished last number or an absurd number."""
    problems: dict[int, str] = {}
    for index, text in enumerate(counts):
        if not text.isascii():
            problems[index] = f"expected RLE counts of ASCII characters, got {text!r:.40}"
    values, ends = _groups(["" if index in problems else text for index, text in enumerate(counts)])
    foreign = np.flatnonzero(values > 63)
    for index in np.unique(np.searchsorted(ends, foreign, side="right")).tolist():
        problems[index] = (
            f"expected RLE counts of the characters '0' to 'o', got {counts[index]!r:.40}"
        )
    lengths = np.diff(np.concatenate([[0], ends]))
    last = values[np.maximum(ends - 1, 0)] if len(values) else np.zeros(len(ends), dtype=np.uint8)
    for index in np.flatnonzero((lengths > 0) & (last & 32 > 0)).tolist():
        problems.setdefault(index, "expected complete RLE counts, got a string cut inside a number")
    more = np.concatenate([[0], np.cumsum((values & 32) > 0)])
    window = more[_MAX_GROUPS:] - more[:-_MAX_GROUPS] if len(values) >= _MAX_GROUPS else more[:0]
    for position in np.flatnonzero(window == _MAX_GROUPS).tolist():
        index = int(np.searchsorted(ends, position, side="right"))
        problems.setdefault(index, "expected RLE runs below 2^34, got a longer number")
    return problems


def _groups(counts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the six-bit values of all characters and the end position of each string."""
    text = np.frombuffer("".join(counts).encode("ascii"), dtype=np.uint8)
    lengths = np.fromiter((len(string) for string in counts), dtype=np.int64, count=len(counts))
    return text - np.uint8(_FIRST_CHAR), np.cumsum(lengths)


def _parse(counts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Parse strings without broken text; see the module docstring for the format."""
    values, ends = _groups(counts)
    if not len(values):
        return np.zeros(0, dtype=np.int64), np.zeros(len(counts) + 1, dtype=np.int64)
    number_ends = np.flatnonzero((values & 32) == 0)
    number_starts = np.concatenate([[0], number_ends[:-1] + 1])
    groups = number_ends - number_starts + 1
    numbers = (values[number_starts] & 31).astype(np.int64)
    for group in range(1, int(groups.max())):
        longer = np.flatnonzero(groups > group)
        digits = (values[number_starts[longer] + group] & 31).astype(np.int64)
        numbers[longer] += digits << (5 * group)
    negative = np.flatnonzero(values[number_ends] & 16)
    numbers[negative] -= np.int64(1) << (5 * groups[negative])
    offsets = np.concatenate([[0], np.searchsorted(number_ends, ends - 1, side="right")])
    place = _places(offsets, len(numbers))
    runs = numbers.copy()
    for parity in (0, 1):
        chain = (place % 2 == parity) & (place > 0)
        total = np.cumsum(np.where(chain, numbers, 0))
        before = np.repeat(np.concatenate([[0], total])[offsets[:-1]], np.diff(offsets))
        runs[chain] = (total - before)[chain]
    return runs, offsets
