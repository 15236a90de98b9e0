"""Outputs of a fixed frame detector in a folder, computed once and read by every training on top.

``cache.json`` says which detector they are of. Each video has two memory-mapped arrays in half
precision, written at once or not at all; their names hold a fingerprint of the video's files and of
the size of the network's input, so that what has changed is not found.

Shapes: L decoder layers, T frames, N frame queries, C and D channels, h w at stride 4.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amodal2.utils.files import atomic_write, write_json

_INDEX = "cache.json"


@dataclass
class DetectedFrames:
    """What a video model reads of a frame detector.

    Attributes:
        queries (Tensor[L, T, N, C]): frame queries of the last L decoder layers.
        fine (Tensor[T, D, h, w]): the map P4, from which mask features are made.
    """

    queries: Tensor
    fine: Tensor

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.fine)

    def select(self, indices: Sequence[int]) -> DetectedFrames:
        """Return the frames ``indices``, repeats allowed."""
        chosen = list(indices)
        return DetectedFrames(self.queries[:, chosen], self.fine[chosen])


class DetectorCache:
    """A folder of detector outputs."""

    def __init__(self, folder: str | Path) -> None:
        """Name the folder; nothing is read yet.

        Args:
            folder: made when something is written.
        """
        self.folder = Path(folder)

    def bind(self, detector: dict[str, Any]) -> None:
        """Say which detector the outputs are of: an empty folder's from now on, or the same one's.

        Args:
            detector: plain data that tell it from all others.

        Raises:
            ValueError: if the folder holds outputs of another one.
        """
        index = self.folder / _INDEX
        if not index.is_file():
            write_json(index, detector)
            return
        found = json.loads(index.read_text(encoding="utf-8"))
        if found != detector:
            differs = sorted(k for k in {*found, *detector} if found.get(k) != detector.get(k))
            raise ValueError(
                f"DetectorCache.bind: expected outputs of this detector in {self.folder}, got "
                f"those of another one ({', '.join(differs)} differ); name another folder in "
                "MODEL.MASK_FORMER.CACHE_DIR or delete this one"
            )

    def has(self, key: str) -> bool:
        """Tell whether a video's outputs are there.

        Args:
            key: from :func:`video_key`.
        """
        return self._path(key, "queries").is_file()

    def write(self, key: str, detected: DetectedFrames) -> None:
        """Store the outputs of a whole video.

        Args:
            key: from :func:`video_key`.
            detected: of all its frames.

        Raises:
            ValueError: if half precision cannot hold a value.
        """
        # The queries come last: their file says that both are complete.
        parts = {"map": detected.fine, "queries": detected.queries.transpose(0, 1)}
        for part, tensor in parts.items():
            array = tensor.cpu().to(torch.float16).numpy()
            if not np.isfinite(array).all():
                raise ValueError(
                    f"DetectorCache.write: expected {part} within half precision, got up to "
                    f"{float(tensor.abs().max()):g} in {key}; train without a cache"
                )
            with atomic_write(self._path(key, part)) as temporary, temporary.open("wb") as file:
                np.save(file, np.ascontiguousarray(array))

    def read(self, key: str, indices: Sequence[int]) -> DetectedFrames:
        """Read frames of a video.

        Args:
            key: from :func:`video_key`.
            indices: frame numbers, repeats allowed.

        Returns:
            DetectedFrames: float16, on the CPU.

        Raises:
            FileNotFoundError: if the video's outputs are not there.
        """
        chosen = list(indices)
        try:
            queries, fine = (
                torch.from_numpy(np.load(self._path(key, part), mmap_mode="r")[chosen])
                for part in ("queries", "map")
            )
        except FileNotFoundError as e:
            raise FileNotFoundError(
                f"DetectorCache.read: expected the outputs {key} in {self.folder}, got none; the "
                "trainer computes them before its first iteration, so the frames of this video "
                "have changed since"
            ) from e
        return DetectedFrames(queries.transpose(0, 1), fine)

    def _path(self, key: str, part: str) -> Path:
        return self.folder / f"{key}.{part}.npy"


def video_key(dataset_dict: dict[str, Any], size: tuple[int, int]) -> str:
    """Name the outputs for one video.

    Args:
        dataset_dict: with ``video_id`` and ``file_names`` or ``file_name``.
        size: (height, width) of the network's input without padding, in pixels.

    Returns:
        str: the id and a fingerprint of the paths, lengths and times of change of the video's
        files and of ``size``.

    Raises:
        FileNotFoundError: if a file is missing.
    """
    files = dataset_dict.get("file_names") or [dataset_dict["file_name"]]
    digest = hashlib.sha256(repr(tuple(size)).encode())
    for file in files:
        status = os.stat(file)
        digest.update(repr((os.path.abspath(file), status.st_size, status.st_mtime_ns)).encode())
    return f"{dataset_dict['video_id']}-{digest.hexdigest()[:16]}"
