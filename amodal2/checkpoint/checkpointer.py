"""Checkpointer of training and evaluation."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

import amodal2.checkpoint.zoo_path  # noqa: F401 registers "amodal2://"
from amodal2.checkpoint.c2f_seg import codebook_mismatch
from amodal2.checkpoint.load_report import LoadReport
from amodal2.checkpoint.official import OfficialWeights, translate_official
from amodal2.checkpoint.readers import read_weights
from amodal2.utils.errors import CheckpointError
from amodal2.utils.files import atomic_write


class AmodalCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with safe readers, atomic writes and a report of what was loaded.

    Reads the formats of :func:`read_weights`, from a path or from ``amodal2://NAME`` (shipped
    weights), and brings official names to ours (:func:`translate_official`). Entries of another
    shape, as the class layers of another dataset, are skipped and reported.

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
            path: file, URL, ``amodal2://NAME``, or "" for nothing. Several ones, separated by
                commas, are joined, and where they share a name the last one counts; all else is
                taken from the first.
            checkpointables: names of those to load; None loads all that the file has.

        Returns:
            dict: the remaining entries of the file.

        Raises:
            CheckpointError: if there is no such file, it is damaged, nothing in it fits the model,
                nothing but the backbone of a file that holds another system as well, or most of it
                has other shapes.
        """
        self.last_report = LoadReport()
        if not path:
            self.logger.info("No weights given: starting from the model's own initialisation")
            return {}
        contents, official = self._read(path)
        weights = official.state
        incompatible = self._load_model(contents)
        made = self.model.start_missing(weights) if hasattr(self.model, "start_missing") else {}
        self.last_report = LoadReport(
            missing=[name for name in incompatible.missing_keys if name not in made],
            unexpected=list(incompatible.unexpected_keys),
            mismatched=[tuple(entry) for entry in incompatible.incorrect_shapes],
            recognised=official.recognised,
            renamed=official.renamed,
            dropped=official.dropped,
            copied=official.copied | made,
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

    def _read(self, path: str) -> tuple[dict[str, Any], OfficialWeights]:
        """Read one file or several ones; the contents have the joined weights under "model"."""
        names = [path] if os.path.isfile(path) else [name.strip() for name in path.split(",")]
        read = []
        for name in names:
            local = name if os.path.isfile(name) else self.path_manager.get_local_path(name)
            contents = read_weights(local)
            self.logger.info("Loading %s", name)
            official = self._translate(contents, name)
            self._check_system(official, name)
            read.append((contents, official))
        contents, official = read[0]
        for _, other in read[1:]:
            official.extend(other)
        return contents, official

    def _translate(self, contents: dict[str, Any], path: str) -> OfficialWeights:
        """Bring the names under "model" to those of the model."""
        try:
            official = translate_official(contents["model"], self.model.state_dict().keys())
        except ValueError as e:
            raise CheckpointError(f"AmodalCheckpointer.load: {e} in {path}") from e
        contents["model"] = official.state
        if official.alone:  # its names are exact now
            contents.pop("matching_heuristics", None)
        return official

    def _check_system(self, official: OfficialWeights, path: str) -> None:
        """Stop at a file of another system, before its backbone is loaded."""
        model, file = self.model.state_dict(), official.state
        problem = codebook_mismatch(file, model)
        if problem:
            raise CheckpointError(f"AmodalCheckpointer.load: {problem} in {path}")
        own, theirs = _outside_backbone(model), _outside_backbone(file)
        if file.keys() & model.keys() and own and theirs and not own & theirs:
            raise CheckpointError(
                f"AmodalCheckpointer.load: expected weights of this model (with {_parts(own)}), "
                f"got those of another system in {path} (with {_parts(theirs)}); to start from its "
                "backbone, write that to a file with tools/convert_checkpoint.py --only backbone."
            )
        common = [name for name in file if name in own]
        shapes = {name: (tuple(file[name].shape), tuple(model[name].shape)) for name in common}
        other = [name for name, (stored, wanted) in shapes.items() if stored != wanted]
        if 2 * len(other) > len(common):
            stored, wanted = shapes[other[0]]
            raise CheckpointError(
                f"AmodalCheckpointer.load: expected weights of a model of this size, got other "
                f"shapes for {len(other)} of {len(common)} entries in {path} "
                f"({official.recognised or 'unknown'}), such as {list(stored)} instead of "
                f"{list(wanted)} for {other[0]}"
            )


def _outside_backbone(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.startswith("backbone.")}


def _parts(names: Iterable[str]) -> str:
    return ", ".join(sorted({name.partition(".")[0] for name in names}))
