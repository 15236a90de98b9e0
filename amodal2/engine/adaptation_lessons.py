"""What SaVos and PCNet-M learn from one video in test-time adaptation, as in their training.

Letters: B tracks, T frames, H W region.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amodal2.data.mappers import ObjectTrackMapper
from amodal2.data.mappers.eraser_patch import ERASERS_KEY, EraserPatchMapper
from amodal2.modeling.completion.pcnet import PCNetM
from amodal2.modeling.completion.track_batch import TrackBatch
from amodal2.modeling.savos import SaVos
from amodal2.structures.track import MaskTube, Track
from amodal2.utils.frame_source import FrameSource
from amodal2.utils.optical_flow import OpticalFlow

LEAST_FRAMES = 3
"""Of a track that SaVos can learn from: its losses need a frame with neighbours on both sides."""
_PATCHES = 16  # that PCNet-M learns from in one step, and as many others that it is measured by
_OFFICIAL_REACH = 2.0  # factor on the visible boxes, for models that cut as the released code does
_MEASURED_FROM = 1 << 20  # first seed of the latter

Adaptable = SaVos | PCNetM


@dataclass
class Measured:
    """One step, measured before it.

    Attributes:
        loss (float): the training loss.
        visible (list[float]): IoU of prediction and visible mask.
        occluded (list[float]): of the hidden parts, where the truth was given.
    """

    loss: float = 0.0
    visible: list[float] = field(default_factory=list)
    occluded: list[float] = field(default_factory=list)


class Lesson(ABC):
    """The objects of one video, as a model learns from them."""

    @abstractmethod
    def learn(self, number: int) -> Measured:
        """Add the gradients of one step to the model, which is in training mode.

        Args:
            number: of the step; draws at random are the same for the same number.
        """


class TrackLesson(Lesson):
    """Object tracks, for SaVos; a step takes all of them."""

    def __init__(self, model: SaVos, items: list[dict[str, Any]]) -> None:
        """Take what :func:`make_lesson` has cut out."""
        self._model, self._items = model, items

    def learn(self, number: int) -> Measured:
        """Sum the gradients of all objects, see :class:`Lesson`."""
        found = Measured()
        for item in self._items:
            batch = TrackBatch.collate([item], self._model.device)
            losses, merged = self._model.losses(batch)
            total = torch.stack(list(losses.values())).sum() / len(self._items)
            total.backward()
            found.loss += total.item()
            seen, hidden = inner_ious(batch, merged.detach())
            found.visible += seen
            found.occluded += hidden
        return found


class EraserLesson(Lesson):
    """Objects with others laid over them, for PCNet-M; a step draws some, as its training does."""

    def __init__(self, model: PCNetM, video: dict[str, Any]) -> None:
        """Draw what the model is measured by.

        Args:
            model: learns.
            video: dataset dict of ``EraserPatchMapper``.

        Raises:
            ValueError: if no object will do.
        """
        self._model, self._video = model, video
        self._mapper = EraserPatchMapper(is_train=True, size=model.size[0])
        self._measured = self._draw(_MEASURED_FROM)

    def learn(self, number: int) -> Measured:
        """Take new draws; IoUs are of the masks with nothing erased, see :class:`Lesson`."""
        masks, erasers, targets = (
            torch.stack([one[name] for one in self._measured]).to(self._model.device)
            for name in ("mask", "eraser", "target")
        )
        self._model.eval()
        with torch.inference_mode():
            logits = self._model.predict(masks, erasers)
        self._model.train()
        visible = _ious((logits[:, 1] > logits[:, 0])[:, None], targets[:, None])
        loss = self._model(self._draw(number * _PATCHES))["loss_mask"]
        loss.backward()
        return Measured(loss.item(), visible.flatten().tolist())

    def _draw(self, seed: int) -> list[dict[str, Any]]:
        return [self._mapper(self._video, seed + place) for place in range(_PATCHES)]


def make_lesson(
    model: Adaptable,
    source: FrameSource,
    tracks: Sequence[Track],
    flow: OpticalFlow,
    *,
    truth: Mapping[int, MaskTube],
    only: Collection[int] | None,
    clip_len: int,
) -> Lesson | None:
    """Cut out what a model learns from.

    Args:
        model: learns.
        source: the video.
        tracks: its visible masks.
        flow: gives the flow.
        truth: amodal masks by track id, to measure and never to learn from.
        only: ids of the tracks that are learnt from; None takes all.
        clip_len: frames of a track that SaVos sees at once; longer tracks are parted.

    Returns:
        Lesson | None: None if there is nothing to learn from.
    """
    wanted = {track.id for track in tracks if only is None or track.id in only}
    if isinstance(model, PCNetM):
        records = [{"id": track.id, "segmentations": track.visible or []} for track in tracks]
        own = [record for record in records if record["id"] in wanted]
        others = [record for record in records if record["id"] not in wanted]
        try:
            return EraserLesson(model, {"video_id": 1, "annotations": own, ERASERS_KEY: others})
        except ValueError:
            return None
    assert isinstance(model, SaVos), "the other kind of Adaptable"
    items = _cut_tracks(model, source, tracks, flow, truth, wanted, clip_len)
    return TrackLesson(model, items) if items else None


def _cut_tracks(
    model: SaVos,
    source: FrameSource,
    tracks: Sequence[Track],
    flow: OpticalFlow,
    truth: Mapping[int, MaskTube],
    wanted: Collection[int],
    clip_len: int,
) -> list[dict[str, Any]]:
    """Cut the objects' visible lives into samples, no larger than the model's patches reach."""
    reach = _OFFICIAL_REACH if model.rule is None else model.rule.enlarge
    mapper = ObjectTrackMapper(is_train=True, num_frames=clip_len, enlarge=reach)
    records: list[dict[str, Any]] = [
        {
            "id": track.id,
            "segmentations": track.visible,
            "amodal_segmentations": truth.get(track.id),
        }
        for track in tracks
    ]
    items = []
    for record in records:
        tube = record["segmentations"] or []
        seen = [t for t, rle in enumerate(tube) if rle is not None]
        if not seen or record["id"] not in wanted:
            continue
        life = np.arange(seen[0], seen[-1] + 1)
        for part in np.array_split(life, -(-len(life) // clip_len)):
            if len(part) >= LEAST_FRAMES and any(tube[t] for t in part):
                indices = part.tolist()
                items.append(mapper.cut(source, records, record, indices, flow, len(tube)))
    return items


def inner_ious(batch: TrackBatch, merged: Tensor) -> tuple[list[float], list[float]]:
    """Measure predictions in the frames that have a neighbour on both sides.

    Args:
        batch: the tracks.
        merged (Tensor[B, T, H, W]): of ``merge_for_losses``: entry t is of frame t + 1.

    Returns:
        tuple: IoU with the visible mask outside other objects, per frame; and, if the batch has
        amodal masks, IoU of the hidden parts per frame that has one, with the prediction taken
        inside other objects.
    """
    predicted = merged[:, :-2] > 0.5
    visible, others = batch.visible[:, 1:-1] > 0, batch.others[:, 1:-1] > 0
    seen = _ious(predicted & ~others, visible & ~others).flatten().tolist()
    if batch.amodal is None:
        return seen, []
    hidden = (batch.amodal[:, 1:-1] > 0) & ~visible
    ious = _ious(predicted & others & ~visible, hidden)
    return seen, ious[hidden.flatten(2).any(2)].tolist()


def _ious(first: Tensor, second: Tensor) -> Tensor:
    both = (first & second).sum(dim=(2, 3))
    return (both + 1e-6) / ((first | second).sum(dim=(2, 3)) + 1e-6)
