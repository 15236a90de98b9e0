"""Test-time adaptation (SaVos, Sec. 3.3): go on learning on the video that is to be completed.

The paper gives the rule for stopping; optimiser, rate and number of iterations are ours. One
iteration is one step on all objects of the video, for PCNet-M on some draws from them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from amodal2.engine.adaptation_lessons import LEAST_FRAMES, Adaptable, Lesson, make_lesson
from amodal2.evaluation.svg_chart import line_chart, stand_alone
from amodal2.structures.track import MaskTube, Track
from amodal2.utils.files import atomic_write
from amodal2.utils.frame_source import FrameSource
from amodal2.utils.logging import get_logger
from amodal2.utils.optical_flow import OpticalFlow

logger = get_logger(__name__)


@dataclass(frozen=True)
class AdaptationSettings:
    """How a model adapts.

    Attributes:
        max_iterations (int): steps at most.
        learning_rate (float): of Adam, which starts anew for each video.
        patience (int): steps over which the visible IoU must rise ...
        least_gain (float): ... by this much; else the video is done (paper: 0.01 over 10).
        clip_len (int): frames of a track that are learnt from at once; longer tracks are parted.
        state_dir (Path | None): where the state of each video is kept, so that a run that was
            stopped goes on there; None keeps none.
    """

    max_iterations: int = 100
    learning_rate: float = 1e-4
    patience: int = 10
    least_gain: float = 0.01
    clip_len: int = 40
    state_dir: Path | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if one is out of range.
        """
        if min(self.max_iterations, self.patience) < 1 or self.clip_len < LEAST_FRAMES:
            raise ValueError(
                "AdaptationSettings: expected max_iterations and patience >= 1 and clip_len >= "
                f"{LEAST_FRAMES}, got {self}"
            )


@dataclass
class AdaptationHistory:
    """What happened on one video; one entry per iteration, measured before its step.

    Attributes:
        loss (list[float]): the training loss.
        visible_iou (list[float]): of prediction and visible mask outside other objects.
        occluded_iou (list[float]): of the hidden parts, where the truth was given.
        seconds (float): time that it took.
    """

    loss: list[float] = field(default_factory=list)
    visible_iou: list[float] = field(default_factory=list)
    occluded_iou: list[float] = field(default_factory=list)
    seconds: float = 0.0


class VideoAdapter:
    """Adapts a model to one video after the other, each time from the same weights."""

    def __init__(self, model: Adaptable, settings: AdaptationSettings) -> None:
        """Remember the weights.

        Args:
            model: changed in place by :meth:`adapt`.
            settings: how.
        """
        self._model, self._settings = model, settings
        self._start = {key: value.clone() for key, value in model.state_dict().items()}
        self.histories: dict[str, AdaptationHistory] = {}

    def restore(self) -> None:
        """Give the model the weights that it had at first, in evaluation mode."""
        self._model.load_state_dict(self._start)
        self._model.eval()

    def adapt(
        self,
        name: str,
        source: FrameSource,
        tracks: Sequence[Track],
        flow: OpticalFlow,
        truth: Mapping[int, MaskTube] | None = None,
        only: Collection[int] | None = None,
    ) -> AdaptationHistory:
        """Learn from the visible masks of a video; afterwards the model is in evaluation mode.

        Args:
            name: of the video, for files and messages.
            source: the video.
            tracks: its visible masks.
            flow: gives the flow.
            truth: amodal masks by track id, to measure and never to learn from.
            only: ids of the tracks that are learnt from; None takes all.

        Returns:
            AdaptationHistory: empty if no object is visible for three frames (SaVos), or none can
            be partly erased by another one (PCNet-M).
        """
        self.restore()
        lesson = make_lesson(
            self._model,
            source,
            tracks,
            flow,
            truth=truth or {},
            only=only,
            clip_len=self._settings.clip_len,
        )
        optimizer = torch.optim.Adam(self._model.parameters(), self._settings.learning_rate)
        history, file = AdaptationHistory(), self._state_file(name)
        done = lesson is None
        if file is not None and file.is_file():
            state = torch.load(file, map_location=self._model.device, weights_only=True)
            self._model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            history, done = AdaptationHistory(**state["history"]), state["done"]
        self._model.train()
        while lesson is not None and not done:
            begin = time.perf_counter()
            self._step(lesson, optimizer, history)
            history.seconds += time.perf_counter() - begin
            done = self._is_done(history.visible_iou)
            if file is not None and (done or len(history.loss) % self._settings.patience == 0):
                self._save(file, optimizer, history, done)
        self._model.eval()
        self.histories[name] = history
        if history.loss:
            logger.info(
                "%s: adapted in %d iterations and %.1f s, visible IoU %.3f to %.3f",
                name,
                len(history.loss),
                history.seconds,
                history.visible_iou[0],
                history.visible_iou[-1],
            )
        return history

    def _is_done(self, values: list[float]) -> bool:
        patience = self._settings.patience
        stalled = (
            len(values) > patience
            and values[-1] - values[-1 - patience] < self._settings.least_gain
        )
        return stalled or len(values) >= self._settings.max_iterations

    def _step(
        self, lesson: Lesson, optimizer: torch.optim.Optimizer, history: AdaptationHistory
    ) -> None:
        """Go one step and note what was measured before it."""
        optimizer.zero_grad(set_to_none=True)
        found = lesson.learn(len(history.loss))
        optimizer.step()
        history.loss.append(found.loss)
        history.visible_iou.append(float(np.mean(found.visible)))
        if found.occluded:
            history.occluded_iou.append(float(np.mean(found.occluded)))

    def _state_file(self, name: str) -> Path | None:
        folder = self._settings.state_dir
        return None if folder is None else folder / f"{name}.pt"

    def _save(
        self, file: Path, optimizer: torch.optim.Optimizer, history: AdaptationHistory, done: bool
    ) -> None:
        with atomic_write(file) as temporary:
            state = {
                "model": self._model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": dict(vars(history)),
                "done": done,
            }
            torch.save(state, temporary)


def draw_histories(histories: Mapping[str, AdaptationHistory]) -> str:
    """Draw the mean IoU over the videos against the iterations (Fig. 5 of the paper).

    Args:
        histories: of at least one video with two iterations; a video that is done keeps its last
            value.

    Returns:
        str: the content of an ``.svg`` file.
    """
    length = max(len(one.loss) for one in histories.values())
    series: dict[str, list[float | None]] = {}
    for name in ("visible", "occluded"):
        curves = [getattr(one, f"{name}_iou") for one in histories.values()]
        padded = [curve + [curve[-1]] * (length - len(curve)) for curve in curves if curve]
        if padded:
            series[f"{name} IoU"] = (100 * np.mean(padded, axis=0)).tolist()
    ticks = {float(step): str(step) for step in range(0, length, max(1, length // 5))}
    chart = line_chart(
        "test-time adaptation",
        series,
        list(range(length)),
        x_label="iteration",
        y_label="IoU (%)",
        ticks=ticks,
    )
    return stand_alone(chart)
