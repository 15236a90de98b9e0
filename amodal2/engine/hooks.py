"""Hooks of the training loop: learning rate schedule and checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm

from amodal2.checkpoint import AmodalCheckpointer

_NUMBERED = re.compile(r"model_\d{7,}\.pth")


class ScheduleHook(HookBase):
    """Logs the largest learning rate and advances the schedule after every iteration."""

    def after_step(self) -> None:
        """Log, then step."""
        groups = self.trainer.optimizer.param_groups
        self.trainer.storage.put_scalar("lr", max(g["lr"] for g in groups), smoothing_hint=False)
        self.trainer.scheduler.step()


class CheckpointHook(HookBase):
    """Writes a checkpoint every ``period`` iterations and after the last one.

    It must come after the :class:`ScheduleHook`, so that the saved schedule belongs to the next
    iteration.
    """

    def __init__(self, checkpointer: AmodalCheckpointer, period: int, keep: int = 0) -> None:
        """Store the settings.

        Args:
            checkpointer: writes the files; holds model, optimiser and schedule.
            period: in iterations; 0 writes only the last one.
            keep: numbered checkpoints that are kept, the newest ones; 0 keeps all.
        """
        self.checkpointer = checkpointer
        self.period = period
        self.keep = keep

    def before_train(self) -> None:
        """Remove what a process that was killed while saving has left."""
        if comm.is_main_process() and self.checkpointer.save_dir:
            for path in Path(self.checkpointer.save_dir).glob(".model_*.part.pth"):
                path.unlink(missing_ok=True)

    def after_step(self) -> None:
        """Save if this iteration is due."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            name = "model_final"
        elif self.period > 0 and done % self.period == 0:
            name = f"model_{self.trainer.iter:07d}"
        else:
            return
        self.checkpointer.save(name, iteration=self.trainer.iter, seed=self.trainer.seed)
        if comm.is_main_process():
            self._remove_old(name)

    def _remove_old(self, written: str) -> None:
        """Delete the oldest numbered checkpoints, also those of earlier runs in the same folder.

        The file just written stays, whatever the others are called and the clock says.
        """
        if self.keep <= 0:
            return
        files = [
            p for p in Path(self.checkpointer.save_dir).iterdir() if _NUMBERED.fullmatch(p.name)
        ]
        files.sort(key=lambda p: (p.stem == written, p.stat().st_mtime_ns, p.name))
        for path in files[: -self.keep]:
            path.unlink(missing_ok=True)
