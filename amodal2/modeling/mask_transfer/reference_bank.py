"""Bank of references: encoded once, saved, and extended without training.

Shapes: R references, V concepts, h w cells, H W patch pixels (largest of the bank).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal2.modeling.mask_transfer.patches import stack_padded
from amodal2.utils.files import atomic_write

VERSION = 1


@dataclass
class ReferenceBank:
    """Concepts and masks of complete objects.

    Attributes:
        concepts (Tensor[R, V, h, w]): float16, zero outside each reference.
        cells (Tensor[R, 2]): int64, true heights and widths in cells.
        masks (Tensor[R, H, W]): bool, at the references' scale.
        sizes (Tensor[R, 2]): int64, true heights and widths in patch pixels.
        classes (Tensor[R]): int64, contiguous class indices.
        sources (list[str]): where each reference comes from.
        encoder (str): ``encoder_hash`` of what encoded it.
        info (dict[str, str]): about the making of it.
    """

    concepts: Tensor
    cells: Tensor
    masks: Tensor
    sizes: Tensor
    classes: Tensor
    sources: list[str]
    encoder: str
    info: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return R."""
        return len(self.classes)

    @classmethod
    def from_references(
        cls,
        concepts: Sequence[Tensor],
        masks: Sequence[Tensor],
        classes: Sequence[int],
        sources: Sequence[str],
        encoder: str,
    ) -> ReferenceBank:
        """Join encoded references.

        Args:
            concepts (Sequence[Tensor[V, h, w]]): of each reference.
            masks (Sequence[Tensor[H, W]]): bool, of each reference.
            classes (Sequence[int]): contiguous class indices.
            sources (Sequence[str]): e.g. image and annotation id.
            encoder (str): ``encoder_hash`` of the model.

        Returns:
            ReferenceBank: in the given order, on the CPU.

        Raises:
            ValueError: if there is no reference, or a list has another length.
        """
        count = len(concepts)
        if count == 0:
            raise ValueError(
                "ReferenceBank: expected at least one reference, got none; a bank needs complete "
                "objects, see MODEL.MASK_TRANSFER.MIN_SIDE"
            )
        if {count} != {len(masks), len(classes), len(sources)}:
            raise ValueError(
                f"ReferenceBank: expected {count} masks, classes and sources as of concepts, got "
                f"{len(masks)}, {len(classes)} and {len(sources)}"
            )
        return cls(
            stack_padded([c.detach().cpu() for c in concepts]).half(),
            torch.tensor([c.shape[-2:] for c in concepts]),
            stack_padded([m.cpu() for m in masks]),
            torch.tensor([m.shape[-2:] for m in masks]),
            torch.tensor(list(classes), dtype=torch.int64),
            list(sources),
            encoder,
        )

    def extended(self, other: ReferenceBank) -> ReferenceBank:
        """Return a bank with the references of another one behind its own.

        References whose source is in the bank already are left out.

        Args:
            other: encoded by the same model.

        Raises:
            ValueError: if another model has encoded it.
        """
        if self.encoder != other.encoder:
            raise ValueError(
                f"ReferenceBank.extended: expected references of the encoder {self.encoder}, got "
                f"{other.encoder}; encode all of them with one model"
            )
        known = set(self.sources)
        new = [i for i, source in enumerate(other.sources) if source not in known]
        return ReferenceBank(
            _cat_padded(self.concepts, other.concepts[new]),
            torch.cat([self.cells, other.cells[new]]),
            _cat_padded(self.masks, other.masks[new]),
            torch.cat([self.sizes, other.sizes[new]]),
            torch.cat([self.classes, other.classes[new]]),
            self.sources + [other.sources[i] for i in new],
            self.encoder,
            self.info | other.info,
        )

    def save(self, path: str | Path) -> None:
        """Write the bank, complete or not at all; masks take one bit per pixel.

        Args:
            path: of the file; ``torch.load(path, weights_only=True)`` reads it.
        """
        packed = np.packbits(self.masks.numpy().reshape(len(self), -1), axis=1)
        content = {
            "version": VERSION,
            "concepts": self.concepts,
            "cells": self.cells,
            "masks": torch.from_numpy(packed),
            "mask_shape": list(self.masks.shape[1:]),
            "sizes": self.sizes,
            "classes": self.classes,
            "sources": self.sources,
            "encoder": self.encoder,
            "info": self.info,
        }
        with atomic_write(path) as temporary:
            torch.save(content, temporary)

    @classmethod
    def load(cls, path: str | Path) -> ReferenceBank:
        """Read a bank.

        Args:
            path: a file that ``save`` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no bank, or of another version.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"ReferenceBank.load: expected a bank, got no such file {path}; make it with "
                "tools/build_reference_bank.py"
            )
        content = _read(path)
        height, width = content["mask_shape"]
        bits = np.unpackbits(content["masks"].numpy(), axis=1, count=height * width)
        return cls(
            content["concepts"],
            content["cells"],
            torch.from_numpy(bits).bool().view(-1, height, width),
            content["sizes"],
            content["classes"],
            content["sources"],
            content["encoder"],
            content["info"],
        )


def encoder_hash(encoder: nn.Module, *settings: float) -> str:
    """Return a fingerprint of an encoder's weights and of settings that change its maps."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _read(path: str | Path) -> dict[str, Any]:
    """Read a bank's file and check its version."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"ReferenceBank.load: expected a file of tools/build_reference_bank.py, got {path}, "
            f"which cannot be read: {error!s:.80}"
        ) from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION or "concepts" not in content:
        raise ValueError(
            f"ReferenceBank.load: expected a bank of version {VERSION}, got {version!r} in {path}; "
            "build it again"
        )
    return content


def _cat_padded(one: Tensor, other: Tensor) -> Tensor:
    """Join stacks [R, ..., h, w] of different sizes, padded with zeros below and to the right."""
    height = max(one.shape[-2], other.shape[-2])
    width = max(one.shape[-1], other.shape[-1])
    return torch.cat(
        [F.pad(t, (0, width - t.shape[-1], 0, height - t.shape[-2])) for t in (one, other)]
    )
