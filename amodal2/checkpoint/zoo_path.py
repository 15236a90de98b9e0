"""``amodal2://NAME``: weights that are shipped in the package, wherever it is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

from amodal2.utils.errors import CheckpointError

PREFIX = "amodal2://"
WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / "model_zoo" / "weights"


class ShippedWeightsHandler(PathHandler):
    """Resolves ``amodal2://`` paths to files of the package."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return str(shipped_weights(path))

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        return open(shipped_weights(path), mode, buffering=buffering)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return (WEIGHTS_FOLDER / path.removeprefix(PREFIX)).is_file()

    def _exists(self, path: str, **kwargs: Any) -> bool:
        return self._isfile(path)


def shipped_weights(name: str) -> Path:
    """Return the file of shipped weights.

    Args:
        name: file name, with or without ``amodal2://``.

    Returns:
        Path: an existing file.

    Raises:
        CheckpointError: if no such file is shipped; the message lists those that are.
    """
    path = WEIGHTS_FOLDER / name.removeprefix(PREFIX)
    if not path.is_file():
        shipped = sorted(p.name for p in WEIGHTS_FOLDER.glob("*") if not p.name.startswith("."))
        raise CheckpointError(
            f"shipped_weights: expected one of {shipped}, got {os.fspath(path.name)!r}; "
            "give a path to use weights of your own"
        )
    return path


PathManager.register_handler(ShippedWeightsHandler())
