"""What the pickles that SaVos released have in common: nested dicts with COCO RLEs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from amodal2.structures.mask_checks import size_problem
from amodal2.structures.rle import RLE, to_rle, validate_rle
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import is_text
from amodal2.utils.pickles import UNPICKLING_ERRORS, load_plain_pickle


def load_tracks(path: str | Path, reader: str) -> dict[Any, Any]:
    """Read a pickle of plain data; nothing of the file is run.

    Args:
        path: file.
        reader: name of the caller, for messages.

    Returns:
        dict: what was pickled, not empty.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is damaged, holds more than plain data, or no dict.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{reader}: expected a pickle, got no such file {file}")
    try:
        data = load_plain_pickle(file)
    except UNPICKLING_ERRORS as error:
        raise AnnotationError(
            f"{reader}: expected a complete pickle of plain data, got {type(error).__name__}: "
            f"{error}",
            file=file,
        ) from error
    if not isinstance(data, dict) or not data:
        got = "an empty one" if isinstance(data, dict) else type(data).__name__
        raise AnnotationError(f"{reader}: expected a dict of tracks, got {got}", file=file)
    return data


def check_keys(data: dict[Any, Any], reader: str, file: Path) -> None:
    """Check that the keys of a pickle are text that can be part of a path.

    Args:
        data: what was pickled.
        reader: name of the caller, for messages.
        file: the pickle.

    Raises:
        AnnotationError: at the first key that is something else.
    """
    for key in data:
        if not is_text(key):
            raise AnnotationError(
                f"{reader}: expected the names of videos as keys, got {key!r:.80}", file=file
            )


def pickled_dict(value: Any, reader: str, file: Path, key: str) -> dict[Any, Any]:
    """Check that a part of a pickle is a dict.

    Args:
        value: what should be one.
        reader: name of the caller, for messages.
        file: the pickle.
        key: place in it.

    Raises:
        AnnotationError: if it is none.
    """
    if not isinstance(value, dict):
        raise AnnotationError(
            f"{reader}: expected a dict, got {type(value).__name__}", file=file, key=key
        )
    return value


def pickled_size(value: Any, reader: str, file: Path, key: str) -> tuple[int, int]:
    """Return (H, W) of a mask.

    Args:
        value: RLE, or a list of one, whose ``counts`` may be bytes.
        reader: name of the caller, for messages.
        file: the pickle.
        key: place in it.

    Raises:
        AnnotationError: if it has no size.
    """
    rle = value[0] if isinstance(value, list) and len(value) == 1 else value
    size = rle.get("size") if isinstance(rle, dict) else None
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise AnnotationError(
            f"{reader}: expected an RLE with size and counts, got {value!r:.80}", file=file, key=key
        )
    sides = [side.item() if isinstance(side, np.integer) else side for side in size]
    problem = size_problem({"height": sides[0], "width": sides[1]})
    if problem is not None:
        raise AnnotationError(f"{reader}: {problem[1]}", file=file, key=key)
    return sides[0], sides[1]


def pickled_frame(value: Any, reader: str, file: Path, key: str) -> int:
    """Return the number of a frame.

    Args:
        value: integer, or its decimal digits.
        reader: name of the caller, for messages.
        file: the pickle.
        key: place in it.

    Raises:
        AnnotationError: if it is neither.
    """
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise AnnotationError(
            f"{reader}: expected the number of a frame, got {value!r:.80}", file=file, key=key
        )
    return int(text)


def pickled_mask(value: Any, size: tuple[int, int], reader: str, file: Path, key: str) -> RLE:
    """Bring a mask of a pickle into the compressed form and check it.

    Args:
        value: RLE, or a list of one, whose ``counts`` may be bytes.
        size: expected (H, W).
        reader: name of the caller, for messages.
        file: the pickle.
        key: place in it.

    Returns:
        RLE: compressed.

    Raises:
        AnnotationError: if it is no mask of that size.
    """
    found = pickled_size(value, reader, file, key)
    rle = value[0] if isinstance(value, list) else value
    counts = rle.get("counts")
    text = counts.decode("latin1") if isinstance(counts, bytes) else counts
    try:
        mask = to_rle({"size": [*found], "counts": text}, *size)
        validate_rle(mask, size)
    except ValueError as error:
        raise AnnotationError(f"{reader}: {error}", file=file, key=key) from error
    return mask
