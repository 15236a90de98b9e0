"""Checkpointer of training and evaluation."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

import amodal2.checkpoint.zoo_path  # noqa: F401 registers "amodal2://"
from amodal2.checkpoint.mask2former import upgrade_mask2former_keys
from amodal2.checkpoint.readers import read_weights
from amodal2.utils.errors import CheckpointError
from amodal2.utils.files import atomic_write

_SHOWN = 12  # names per list in a report


@dataclass
class LoadReport:
    """How the keys of a weight file fitted a model.

    Attributes:
        missing (list[str]): parameters of the model that the file lacks; they keep their values.
        unexpected (list[str]): entries of the file that the model does not know.
        mismatched (list[tuple]): name, shape in the file, shape in the model; skipped.
    """

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """True if every key fitted."""
        return not (self.missing or self.unexpected or self.mismatched)

    def require_exact(self, source: str) -> None:
        """Stop unless every key fitted.

        Args:
            source: file name for the message.

        Raises:
            CheckpointError: listing the keys that did not.
        """
        if not self.exact:
            raise CheckpointError(
                f"LoadReport: expected weights that fit the model, got {source}: {self}"
            )

    def __str__(self) -> str:
        """Return one line per list, each with at most a dozen names."""
        shapes = [f"{name} {list(old)} -> {list(new)}" for name, old, new in self.mismatched]
        parts = [
            _listing("missing from the file", self.missing),
            _listing("not in the model", self.unexpected),
            _listing("of another shape", shapes),
        ]
        return "\n  ".join(part for part in parts if part) or "all keys match"


class AmodalCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with safe readers, atomic writes and a report of what was loaded.

    Reads the formats of :func:`read_weights`, from a path or from ``amodal2://NAME`` (shipped
    weights), and renames official Mask2Former keys on the way.

    Attributes:
        last_report (LoadReport): of the last file that was loaded.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments of ``DetectionCheckpointer``."""
        super().__init__(*args, **kwargs)
        self.last_report = LoadReport()
        self.logger = logging.getLogger(__name__)

    def save(self, name: str, **extra: Any) -> None:
        """Write ``NAME.pth`` into the save folder and mark it as the last checkpoint.

        A reader sees the old or the new files, never a part of one.

        Args:
            name: file name without suffix.
            **extra: plain data to store beside model and checkpointables.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()}, **extra)
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving %s", path)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            torch.save(data, file)
            file.flush()
            os.fsync(file.fileno())
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Store the name of the last complete checkpoint."""
        with atomic_write(Path(self.save_dir) / "last_checkpoint") as temporary:
            temporary.write_text(last_filename_basename, encoding="utf-8")

    def load(self, path: str, checkpointables: Sequence[str] | None = None) -> dict[str, Any]:
        """Load a weight file into the model and the checkpointables.

        Args:
            path: file, URL, ``amodal2://NAME``, or "" for nothing.
            checkpointables: names of those to load; None loads all that the file has.

        Returns:
            dict: the remaining entries of the file.

        Raises:
            CheckpointError: if there is no such file, it is damaged, or nothing in it fits the
                model.
        """
        self.last_report = LoadReport()
        if not path:
            self.logger.info("No weights given: starting from the model's own initialisation")
            return {}
        local = path if os.path.isfile(path) else self.path_manager.get_local_path(path)
        contents = self._load_file(local)
        self.logger.info("Loading %s", path)
        incompatible = self._load_model(contents)
        self.last_report = LoadReport(
            missing=list(incompatible.missing_keys),
            unexpected=list(incompatible.unexpected_keys),
            mismatched=[tuple(entry) for entry in incompatible.incorrect_shapes],
        )
        if len(self.last_report.missing) >= len(self.model.state_dict()):
            raise CheckpointError(
                f"AmodalCheckpointer.load: expected weights of this model, got no fitting key in "
                f"{path}: {self.last_report}"
            )
        level = logging.INFO if self.last_report.exact else logging.WARNING
        self.logger.log(level, "Loaded %s:\n  %s", path, self.last_report)
        wanted = self.checkpointables if checkpointables is None else checkpointables
        for key in wanted:
            if key in contents:
                self.checkpointables[key].load_state_dict(contents.pop(key))
        return contents

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a local file and rename official keys."""
        contents = read_weights(filename)
        consume_prefix_in_state_dict_if_present(contents["model"], "module.")
        contents["model"] = upgrade_mask2former_keys(contents["model"])
        return contents


def _listing(title: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {title}: " + ", ".join(names[:_SHOWN]) + more
