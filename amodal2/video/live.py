"""Run a model over a stream without an end: neither memory nor disk grow with its length."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from amodal2.structures.clip import ClipOutput
from amodal2.structures.clip_masker import ClipMasker
from amodal2.structures.frame_object import TrackedFrame
from amodal2.structures.slot_lives import SlotLives
from amodal2.structures.tube_track import MaskKinds, frame_objects, score_table
from amodal2.video.streaming import ClipStream, PredictorSettings, StreamingModel


class LivePredictor(ClipStream):
    """Hands out the masks of each clip and keeps none of them.

    The class scores of the moment choose the slots whose class score, an upper bound of the score,
    reaches the threshold, ``top_k`` of them at most; only their logits leave the device and are
    resampled and encoded. The score of a track is its class score times the mean probability inside
    its masks in the clips in which it was chosen so far. With ``top_k`` of at least the number of
    slots and a threshold of 0 the frames are those that ``Predictor.push`` hands out.

    Of a slot that is not chosen only the signs of the logits count, to know how long its object has
    been gone. With ``max_gone_frames`` None a slot keeps its id for ever, which suits short streams
    only; some seconds of frames are a sensible value.

    Attributes:
        kinds (MaskKinds): what the model predicts, known from the first clip on.
    """

    def __init__(self, model: StreamingModel, settings: PredictorSettings | None = None) -> None:
        """Begin a stream.

        Args:
            model (StreamingModel): in evaluation mode; it must not hold clips back.
            settings (PredictorSettings | None): None takes the defaults.
        """
        super().__init__(model, settings)
        self._length = 0
        self._lives: SlotLives | None = None
        self._masker: ClipMasker | None = None
        self.kinds = MaskKinds(visible=True, amodal=True, quality=self._settings.mask_quality)

    def finish(self) -> list[TrackedFrame]:
        """Process the frames that wait.

        Returns:
            list[TrackedFrame]: the last frames; the stream may go on with :meth:`push`.
        """
        return self.flush()

    def _run(self, clip: Tensor) -> list[TrackedFrame]:
        ready = super()._run(clip)
        if self._masker is None:
            raise ValueError(
                "LivePredictor: expected a model that gives the masks of every clip, got one that "
                "needs the whole video; use Predictor"
            )
        return ready

    def _take(self, output: ClipOutput) -> list[TrackedFrame]:
        lives, masker = self._open(output.num_slots)
        scores = score_table(self._class_scores(), output.num_slots)
        rows, _ = self._choice.candidates(scores)
        slots = sorted(rows.tolist())
        start, self._length = self._length, self._length + output.num_frames
        masks = masker.masks(output, start, slots)
        masker.pass_over(output, start, sorted(set(range(output.num_slots)) - set(slots)))
        running = lives.running()
        shown = [life for life in lives.pop_ended() if life.slot in slots]
        shown += [running[slot] for slot in slots]
        self.kinds = replace(
            self.kinds,
            visible=output.visible_logits is not None,
            amodal=output.amodal_logits is not None,
        )
        table = scores[[life.slot for life in shown]]
        tracks = self._ids.name(self._choice.choose(shown, table, self.kinds))
        self._ids.keep({(life.slot, life.first) for life in running})
        frames = range(start, self._length)
        objects = frame_objects(frames, masks, tracks, masker.output_size)
        return [TrackedFrame(index, items) for index, items in zip(frames, objects, strict=True)]

    def _open(self, num_slots: int) -> tuple[SlotLives, ClipMasker]:
        if self._lives is None or self._masker is None:
            assert self._size is not None, "a clip has frames"
            self._lives = SlotLives(
                num_slots,
                min_visible_px=self._settings.min_visible_px,
                max_gone_frames=self._settings.max_gone_frames,
            )
            self._masker = ClipMasker(
                self._size, self._lives, union_visible=self._settings.union_visible
            )
        return self._lives, self._masker

    def _masks_state(self) -> dict[str, Any] | None:
        if self._lives is None:
            return None
        lives = self._lives.state_dict()
        return {"num_slots": len(lives["first"]), "length": self._length, "lives": lives}

    def _load_masks(self, state: dict[str, Any] | None) -> None:
        self._lives = self._masker = None
        self._length = 0
        if state is not None:
            self._length = state["length"]
            lives, _ = self._open(state["num_slots"])
            lives.load_state_dict(state["lives"])
