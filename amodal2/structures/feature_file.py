"""An unnamed temporary file of feature maps, written clip by clip and read in the same order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor


class FeatureFile:
    """Feature maps of one video. Memory holds their shapes alone; the file holds them as they are.

    The maps of a model at stride 4 with C channels in float32 take C / 4 bytes per input pixel.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        """Open the file.

        Args:
            directory (str | Path | None): where it lies; None leaves it to the system (set
                ``TMPDIR`` where its folder of temporary files is in memory).
        """
        self._file = tempfile.TemporaryFile(dir=directory, prefix="amodal2_features_")
        self._entries: list[tuple[torch.Size, torch.dtype, torch.device]] = []

    def append(self, features: Tensor) -> None:
        """Write the features of the next clip.

        Args:
            features (Tensor): any shape, at least one element, any dtype and device.
        """
        host = features.detach().cpu().contiguous()
        self._file.seek(0, 2)
        self._file.write(host.flatten().view(torch.uint8).numpy().data)
        self._entries.append((features.shape, features.dtype, features.device))

    def read(self) -> Iterator[Tensor]:
        """Read clip by clip.

        Yields:
            Tensor: as it was appended, on the device that it came from.
        """
        offset = 0
        for shape, dtype, device in self._entries:
            buffer = torch.empty(shape.numel() * dtype.itemsize, dtype=torch.uint8)
            self._file.seek(offset)
            count = self._file.readinto(buffer.numpy().data)
            assert count == len(buffer), "the file holds what was written"
            offset += count
            yield buffer.view(dtype).view(shape).to(device)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()
