"""Training and evaluation of any registered system."""

import amodal2.utils.detectron2_compat  # noqa: F401 first: imports Detectron2 without warnings
from amodal2.engine.distributed import synchronise_batch_norm, wrap_distributed
from amodal2.engine.execution import set_execution
from amodal2.engine.hooks import CheckpointHook, ScheduleHook
from amodal2.engine.optimizer import build_optimizer, build_scheduler, clip_gradients
from amodal2.engine.run import start_run
from amodal2.engine.trainer import AmodalTrainer

__all__ = [
    "AmodalTrainer",
    "CheckpointHook",
    "ScheduleHook",
    "build_optimizer",
    "build_scheduler",
    "clip_gradients",
    "set_execution",
    "start_run",
    "synchronise_batch_norm",
    "wrap_distributed",
]
