"""Run a model over a recorded video with memory that does not grow with its length."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from amodal2.structures.clip import ClipOutput
from amodal2.structures.frame_object import TrackedFrame
from amodal2.structures.tube_spool import TubeSpool
from amodal2.utils.frame_source import Frame
from amodal2.video.streaming import ClipStream, PredictorSettings, StreamingModel
from amodal2.video.tracks import Tracks


class Predictor(ClipStream):
    """Takes the frames of one video in order and gives its tracks.

    The masks of all slots wait compressed in a temporary file until the tracks are chosen, by the
    class scores after the last clip. The tracks share that file: closing them ends the predictor
    too. For streams without an end there is :class:`~amodal2.video.live.LivePredictor`.
    """

    def __init__(self, model: StreamingModel, settings: PredictorSettings | None = None) -> None:
        """Begin a video.

        Args:
            model (StreamingModel): in evaluation mode.
            settings (PredictorSettings | None): None takes the defaults.
        """
        super().__init__(model, settings)
        self._spool: TubeSpool | None = None

    def tracks(self) -> Tracks:
        """Return the tracks of the clips that are done, with the scores of this moment.

        Returns:
            Tracks: valid until the predictor is closed.

        Raises:
            ValueError: if no clip is done; with a model that needs the whole video, before the end.
        """
        if self._spool is None:
            raise ValueError(
                "Predictor.tracks: expected at least one clip that is done, got none; there is "
                "none before finish() or the first full clip"
            )
        chosen = self._spool.choose(self._class_scores(), self._choice)
        return Tracks(self._spool, self._ids.name(chosen))

    def finish(self) -> Tracks:
        """Process the frames that wait and return the tracks of the whole video.

        Returns:
            Tracks: with the ids under which :meth:`push` handed them out; valid until the
            predictor is closed.

        Raises:
            ValueError: if there was no frame.
        """
        self.flush()
        with torch.inference_mode():
            for output in self._model.finish_clips(self._state):
                self._open(output).add(output)
        return self.tracks()

    def close(self) -> None:
        """Delete the temporary file."""
        if self._spool is not None:
            self._spool.close()

    def _take(self, output: ClipOutput) -> list[TrackedFrame]:
        spool = self._open(output)
        start, scores = spool.length, self._class_scores()
        spool.add(output, scores)
        chosen = self._ids.name(spool.choose(scores, self._choice))
        if self._settings.max_gone_frames is not None:
            spool.drop_ended(self._choice)
            self._ids.keep(spool.origins())
        frames = spool.iter_frames(chosen, start)
        return [TrackedFrame(index, objects) for index, objects in enumerate(frames, start)]

    def _open(self, output: ClipOutput) -> TubeSpool:
        if self._spool is None:
            assert self._size is not None, "a clip has frames"
            self._spool = self._new_spool(output.num_slots, self._size)
        return self._spool

    def _new_spool(self, num_slots: int, size: tuple[int, int]) -> TubeSpool:
        return TubeSpool(
            num_slots,
            size,
            min_visible_px=self._settings.min_visible_px,
            union_visible=self._settings.union_visible,
            mask_quality=self._settings.mask_quality,
            max_gone_frames=self._settings.max_gone_frames,
            directory=self._settings.spool_dir,
        )

    def _masks_state(self) -> dict[str, Any] | None:
        return None if self._spool is None else self._spool.state_dict()

    def _load_masks(self, state: dict[str, Any] | None) -> None:
        self.close()
        self._spool = None
        if state is not None:
            height, width = state["output_size"]
            self._spool = self._new_spool(state["num_slots"], (height, width))
            self._spool.load_state_dict(state)


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
