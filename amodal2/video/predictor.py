"""Run a model over a video, frame after frame, with memory that does not grow with its length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from amodal2.structures.clip import ClipOutput
from amodal2.structures.tube_spool import TubeSpool
from amodal2.utils.frame_source import Frame
from amodal2.video.clips import ClipBuffer
from amodal2.video.tracks import Tracks


class StreamingModel(Protocol):
    """What a model must offer to run on videos.

    A model that needs the whole video before it knows any mask gives no output for a clip; it gives
    the outputs of all clips at the end.

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
        top_k (int): most tracks per video.
        score_threshold (float): lowest score of a track, in [0, 1].
        min_visible_px (int): visible pixels from which on a track counts as seen.
        union_visible (bool): add the visible mask to the amodal mask.
        mask_quality (bool): scores take the mean probability inside the masks into account.
        category_ids (Sequence[int] | None): category id of each class; None: the class index.
        spool_dir (str | Path | None): folder for the temporary masks; None leaves it to the system.
    """

    short_edge: int = 0
    longest_edge: int = 0
    top_k: int = 20
    score_threshold: float = 0.0
    min_visible_px: int = 1
    union_visible: bool = False
    mask_quality: bool = True
    category_ids: Sequence[int] | None = None
    spool_dir: str | Path | None = None


class Predictor:
    """Takes the frames of one video in order and gives its tracks.

    Frames are collected into clips, the model carries its state from clip to clip, and the masks of
    all slots wait compressed in a temporary file until the tracks are chosen. The tracks share that
    file: closing them ends the predictor too.
    """

    def __init__(self, model: StreamingModel, settings: PredictorSettings | None = None) -> None:
        """Begin a video.

        Args:
            model (StreamingModel): in evaluation mode.
            settings (PredictorSettings | None): None takes the defaults.
        """
        self._model = model
        self._settings = settings or PredictorSettings()
        self._clips = ClipBuffer(
            model.clip_len,
            short_edge=self._settings.short_edge,
            longest_edge=self._settings.longest_edge,
        )
        self._state = model.start()
        self._size: tuple[int, int] | None = None
        self._spool: TubeSpool | None = None

    def push(self, frame: Frame) -> None:
        """Take the next frame; every ``clip_len`` frames the model runs.

        Args:
            frame (ndarray[H, W, 3]): RGB uint8.

        Raises:
            ValueError: if the frame has another size than the ones before.
        """
        size = (frame.shape[0], frame.shape[1])
        if self._size not in (None, size):
            raise ValueError(f"Predictor.push: expected frames of size {self._size}, got {size}")
        self._size = size
        clip = self._clips.push(frame)
        if clip is not None:
            self._run(clip)

    def tracks(self) -> Tracks:
        """Return the tracks of the clips that are done, with the scores of this moment.

        Returns:
            Tracks: valid until the predictor is closed.

        Raises:
            ValueError: if no clip is done; with a model that needs the whole video, before the end.
        """
        if self._spool is None:
            raise ValueError(
                "Predictor.tracks: expected at least one clip that is done, got none; an offline "
                "model has none before finish()"
            )
        with torch.inference_mode():
            scores = self._model.class_scores(self._state)
        chosen = self._spool.select(
            scores,
            self._settings.top_k,
            score_threshold=self._settings.score_threshold,
            category_ids=self._settings.category_ids,
            one_class_per_slot=True,
        )
        return Tracks(self._spool, chosen)

    def finish(self) -> Tracks:
        """Process the frames that wait and return the tracks of the whole video.

        Returns:
            Tracks: valid until the predictor is closed.

        Raises:
            ValueError: if there was no frame.
        """
        clip = self._clips.flush()
        if clip is not None:
            self._run(clip)
        with torch.inference_mode():
            for output in self._model.finish_clips(self._state):
                self._add(output)
        return self.tracks()

    def close(self) -> None:
        """Delete the temporary file."""
        if self._spool is not None:
            self._spool.close()

    def _run(self, clip: Tensor) -> None:
        with torch.inference_mode():
            output, self._state = self._model.forward_clip(clip, self._state)
        if output is not None:
            self._add(output)

    def _add(self, output: ClipOutput) -> None:
        assert self._size is not None, "a clip has frames"
        if self._spool is None:
            self._spool = TubeSpool(
                output.num_slots,
                self._size,
                min_visible_px=self._settings.min_visible_px,
                union_visible=self._settings.union_visible,
                mask_quality=self._settings.mask_quality,
                directory=self._settings.spool_dir,
            )
        self._spool.add(output)


def predict_video(
    model: StreamingModel,
    frames: Iterable[tuple[Frame, float]],
    settings: PredictorSettings | None = None,
    on_frame: Callable[[], object] | None = None,
) -> Tracks:
    """Run a model over all frames of a video.

    Args:
        model (StreamingModel): in evaluation mode.
        frames (Iterable[tuple[ndarray[H, W, 3], float]]): RGB frames and time stamps in order.
        settings (PredictorSettings | None): None takes the defaults.
        on_frame (Callable | None): called after every frame, to show progress.

    Returns:
        Tracks: to be closed after use.

    Raises:
        ValueError: if there is no frame.
    """
    predictor = Predictor(model, settings)
    try:
        for frame, _ in frames:
            predictor.push(frame)
            if on_frame is not None:
                on_frame()
        return predictor.finish()
    except BaseException:
        predictor.close()
        raise
