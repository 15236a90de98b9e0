"""What recorded and live prediction share: frames become clips, clips go through the model.

Letters: T frames, H W frame, N slots, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal2.structures.clip import ClipOutput
from amodal2.structures.frame_object import TrackedFrame
from amodal2.structures.tube_track import TrackChoice
from amodal2.utils.frame_source import Frame
from amodal2.video.clips import ClipBuffer
from amodal2.video.model_state import pack_state, unpack_state
from amodal2.video.track_ids import TrackIds

_VERSION = 1


class StreamingModel(Protocol):
    """What a model must offer to run on videos.

    A model that needs the whole video before it knows any mask gives no output for a clip; it gives
    the outputs of all clips at the end. A state that is to be saved consists of tensors, numbers,
    text, lists, tuples, dictionaries and dataclasses of them.

    Attributes:
        clip_len (int): frames per clip.
    """

    clip_len: int

    def start(self) -> Any:
        """Return the state before the first clip."""

    def forward_clip(self, frames: Tensor, state: Any) -> tuple[ClipOutput | None, Any]:
        """Process frames Tensor[T, 3, H, W] (RGB, 0..255, T up to ``clip_len``)."""

    def finish_clips(self, state: Any) -> Iterator[ClipOutput]:
        """Yield what :meth:`forward_clip` held back, in order; the state is used up."""

    def class_scores(self, state: Any) -> Tensor:
        """Return class probabilities Tensor[N, K] of the slots without "no object"."""


@dataclass(frozen=True)
class PredictorSettings:
    """How frames become tracks.

    Attributes:
        short_edge (int): shorter edge of the network input in pixels, 0 for the original size.
        longest_edge (int): upper limit of its longer edge in pixels, 0 for none.
        top_k (int): most tracks per video; live, per frame.
        score_threshold (float): lowest score of a track, in [0, 1].
        min_visible_px (int): visible pixels from which on a track counts as seen.
        union_visible (bool): add the visible mask to the amodal mask.
        mask_quality (bool): scores take the mean probability inside the masks into account.
        max_gone_frames (int | None): frames in a row without any mask that a track survives; seen
            again after more, the object is a new track. None: a slot is one track.
        category_ids (Sequence[int] | None): category id of each class; None: the class index.
        classes (Collection[int] | None): category ids that are wanted; None: all.
        spool_dir (str | Path | None): folder for the temporary masks; None leaves it to the system.
    """

    short_edge: int = 0
    longest_edge: int = 0
    top_k: int = 20
    score_threshold: float = 0.0
    min_visible_px: int = 1
    union_visible: bool = False
    mask_quality: bool = True
    max_gone_frames: int | None = None
    category_ids: Sequence[int] | None = None
    classes: Collection[int] | None = None
    spool_dir: str | Path | None = None

    def choice(self) -> TrackChoice:
        """Return which tracks are wanted."""
        return TrackChoice(
            self.top_k,
            self.score_threshold,
            self.category_ids,
            self.classes,
            one_class_per_slot=True,
        )

    def stored(self) -> dict[str, Any]:
        """Return what a saved state must agree with, as plain values."""
        values = asdict(self)
        del values["spool_dir"]
        for name in ("category_ids", "classes"):
            if values[name] is not None:
                values[name] = sorted(values[name]) if name == "classes" else list(values[name])
        return values


class ClipStream(ABC):
    """Takes the frames of one video in order and hands out tracked frames, clip by clip.

    Clips begin at the multiples of ``clip_len``, however the frames arrive. A frame is handed out
    when its clip is full: up to ``clip_len - 1`` frames later. Track ids count from 1 in the order
    in which tracks are first handed out, the better score first, and are never given twice; which
    frames belong to one track is said in ``structures/slot_lives.py``.
    """

    def __init__(self, model: StreamingModel, settings: PredictorSettings | None = None) -> None:
        """Begin a video.

        Args:
            model (StreamingModel): in evaluation mode.
            settings (PredictorSettings | None): None takes the defaults.
        """
        self._model = model
        self._settings = settings or PredictorSettings()
        self._choice = self._settings.choice()
        self._clips = ClipBuffer(
            model.clip_len,
            short_edge=self._settings.short_edge,
            longest_edge=self._settings.longest_edge,
        )
        self._state = model.start()
        self._size: tuple[int, int] | None = None
        self._ids = TrackIds()

    def push(self, frames: Frame | NDArray[np.uint8]) -> list[TrackedFrame]:
        """Take the next frame or frames; every ``clip_len`` frames the model runs.

        Args:
            frames (ndarray[H, W, 3] | ndarray[T, H, W, 3]): RGB uint8; may be changed afterwards.

        Returns:
            list[TrackedFrame]: the frames of the clips that became full, in order. Scores, and
            with them the choice of tracks, are those of the moment. A model that holds its clips
            back hands out none.

        Raises:
            TypeError: if the frames are not uint8.
            ValueError: if a frame has another shape, or another size than the ones before.
        """
        if frames.ndim == 4:
            return [ready for frame in frames for ready in self.push(frame)]
        if frames.dtype != np.uint8:
            raise TypeError(f"push: expected frames of uint8, got {frames.dtype}")
        if frames.ndim != 3 or frames.shape[2] != 3:
            raise ValueError(f"push: expected frames [H, W, 3], got shape {frames.shape}")
        size = (frames.shape[0], frames.shape[1])
        if self._size not in (None, size):
            raise ValueError(
                f"push: expected frames of size {self._size}, got {size}; resize them, or begin "
                "another video"
            )
        self._size = size
        clip = self._clips.push(frames)
        return [] if clip is None else self._run(clip)

    def flush(self) -> list[TrackedFrame]:
        """Process the frames that wait as a shorter clip.

        Returns:
            list[TrackedFrame]: as of :meth:`push`.
        """
        clip = self._clips.flush()
        return [] if clip is None else self._run(clip)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on, frames that wait included.

        Returns:
            dict: tensors in host memory, numbers, text and lists of them, which ``torch.save``
            writes and ``torch.load(..., weights_only=True)`` reads.

        Raises:
            TypeError: if the model's state holds something else.
        """
        return {
            "version": _VERSION,
            "kind": type(self).__name__,
            "clip_len": self._model.clip_len,
            "settings": self._settings.stored(),
            "size": None if self._size is None else list(self._size),
            "waiting": self._clips.waiting(),
            "model": pack_state(self._state),
            "ids": self._ids.state_dict(),
            "masks": self._masks_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was saved; the results are the same bits.

        Args:
            state (dict): from :meth:`state_dict` of a predictor with the same model and settings.
                Its tensors may lie on any device; those of the model's state are brought to
                ``model.device`` where the model has one.

        Raises:
            ValueError: if kind, clip length or settings differ; the message names them.
        """
        own = {
            "version": _VERSION,
            "kind": type(self).__name__,
            "clip_len": self._model.clip_len,
            **self._settings.stored(),
        }
        found = {**state, **state.get("settings", {})}
        for name, value in own.items():
            if found.get(name) != value:
                raise ValueError(
                    f"load_state_dict: expected a state with {name} {value!r}, "
                    f"got {found.get(name)!r}"
                )
        self._size = None if state["size"] is None else (state["size"][0], state["size"][1])
        self._clips.restore(state["waiting"])
        device = getattr(self._model, "device", torch.device("cpu"))
        self._state = unpack_state(state["model"], self._model.start(), device)
        self._ids.load_state_dict(state["ids"])
        self._load_masks(state["masks"])

    def _run(self, clip: Tensor) -> list[TrackedFrame]:
        with torch.inference_mode():
            output, self._state = self._model.forward_clip(clip, self._state)
        return [] if output is None else self._take(output)

    def _class_scores(self) -> Tensor:
        with torch.inference_mode():
            return self._model.class_scores(self._state)

    @abstractmethod
    def _take(self, output: ClipOutput) -> list[TrackedFrame]:
        """Work on the logits of the next clip."""

    @abstractmethod
    def _masks_state(self) -> dict[str, Any] | None:
        """Return sums and masks; None before the first clip."""

    @abstractmethod
    def _load_masks(self, state: dict[str, Any] | None) -> None:
        """Undo :meth:`_masks_state`."""
