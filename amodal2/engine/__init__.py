"""Training and evaluation of any registered system."""

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
    "start_run",
]
