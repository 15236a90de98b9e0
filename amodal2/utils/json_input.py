"""JSON from outside: files that parse, and values that are what they should be.

JSON has integers of any length, NaN and halves of surrogate pairs, and Python takes a boolean for a
number; what is accepted here fits into the arrays, file names and reports that it goes into.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from amodal2.utils.errors import AnnotationError

LARGEST_ID = 2**53
"""Ids lie between this and its negative: what every JSON reader keeps exactly."""
LARGEST_AREA = 1e10
"""Largest area of a box in pixels; COCO's tools ignore whatever is larger."""

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def read_json(path: str | Path, reader: str) -> Any:
    """Parse a JSON file.

    Args:
        path: an existing file.
        reader: name of the calling function, for messages.

    Raises:
        AnnotationError: if it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{reader}: expected JSON, got {error}", file=path) from error


def is_id(value: Any) -> bool:
    """Tell whether a value is an integer that fits into 64 bits with room to spare.

    Args:
        value: of any type.
    """
    return type(value) is int and -LARGEST_ID <= value <= LARGEST_ID


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number that fits into a float.

    Args:
        value: of any type.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return isfinite(value)
    except OverflowError:
        return False


def is_text(value: Any) -> bool:
    """Tell whether a value is text that can be written to a file and be part of a path.

    Args:
        value: of any type.
    """
    return isinstance(value, str) and _UNWRITABLE.search(value) is None


def is_box(value: Any) -> bool:
    """Tell whether a value is a box: x, y, w, h, neither side negative, the area not absurd.

    Args:
        value: of any type.
    """
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(is_number, value)):
        return False
    return value[2] >= 0 and value[3] >= 0 and value[2] * value[3] <= LARGEST_AREA


BOX_FORM = "a box of four finite numbers x, y, w, h (w, h >= 0, area at most 1e10)"
"""What :func:`is_box` accepts, for messages."""


def check_entries(
    entries: Iterable[Any],
    kinds: Mapping[str, type],
    reader: str,
    file: str | Path,
    name: str = "",
) -> None:
    """Check that the entries of a list are objects with values of certain types.

    Args:
        entries: the list.
        kinds: key -> type; int is an id, str is text.
        reader: name of the calling function, for messages.
        file: where the list comes from.
        name: of the list, for messages; entries of "annotations" are named by their ids too.

    Raises:
        AnnotationError: naming file, entry and key of the first that is something else.
    """
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise AnnotationError(
                f"{reader}: expected an object, got {entry!r:.80}",
                file=file,
                key=f"{name}[{index}]",
            )
        for key, kind in kinds.items():
            if not _fits(entry.get(key), kind):
                own = entry.get("id") if name == "annotations" and is_id(entry.get("id")) else None
                raise AnnotationError(
                    f"{reader}: expected {_NAMES.get(kind, f'a {kind.__name__}')} {key}, got "
                    f"{entry.get(key)!r:.80}",
                    file=file,
                    annotation_id=own,
                    key=f"{name}[{index}].{key}",
                )


_NAMES = {int: "an integer", str: "a text"}
_CHECKS = {int: is_id, str: is_text}


def _fits(value: Any, kind: type) -> bool:
    check = _CHECKS.get(kind)
    return isinstance(value, kind) if check is None else check(value)
