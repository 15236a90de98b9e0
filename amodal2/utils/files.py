"""Files that appear under their final name only when they are complete."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends without an error.

    The temporary file lies in the same folder and keeps the suffix of ``path`` (encoders choose the
    container by it). Missing parent folders are made. On an error the temporary file is removed
    and an older file under ``path`` stays as it was.

    Args:
        path (str | Path): final name of the file.

    Yields:
        Path: an existing, empty file to write to.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=final.parent, prefix=f".{final.stem}.", suffix=".part" + final.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, obj: Any, *, indent: int | None = None) -> None:
    """Write ``obj`` as JSON, complete or not at all.

    NaN and infinities are refused, since other JSON readers do not know them.

    Args:
        path (str | Path): file to write.
        obj (Any): what ``json`` can serialise.
        indent (int | None): spaces per level; None writes one line.

    Raises:
        ValueError: if a number is not finite.
        TypeError: if a value is not serialisable.
    """
    text = json.dumps(obj, indent=indent, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _umask() -> int:
    """Return the process's file creation mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
