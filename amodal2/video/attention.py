"""Pictures of where the amodal head looks for each object (A2VIS, Fig. 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal2.structures.attention_maps import AttentionMaps
from amodal2.structures.clip import ClipOutput, resample_logits
from amodal2.structures.frame_object import FrameObject
from amodal2.utils.errors import VideoError
from amodal2.utils.files import atomic_write
from amodal2.utils.frame_source import Frame, FrameSource
from amodal2.video.clips import ClipBuffer
from amodal2.video.streaming import PredictorSettings, StreamingModel
from amodal2.video.tracks import Tracks
from amodal2.visualization.attention import draw_heat, draw_priors
from amodal2.visualization.overlay import draw_overlay
from amodal2.visualization.panels import side_by_side

_TITLES = ("", "VSPM blue, ASPM orange", "attention")


class ExplainingModel(StreamingModel, Protocol):
    """A model that tells where it looks."""

    def record_attention(self, slots: Sequence[int]) -> AbstractContextManager[list[AttentionMaps]]:
        """Collect the attention of some slots; each clip adds one entry."""


def require_attention(model: StreamingModel) -> ExplainingModel:
    """Check that a model can tell where it looks.

    Args:
        model: any model.

    Returns:
        ExplainingModel: the same one.

    Raises:
        ValueError: if it cannot.
    """
    if not hasattr(model, "record_attention"):
        raise ValueError(
            "write_attention: expected a model with an amodal attention head, got "
            f"{type(model).__name__}; leave attention out of --save"
        )
    return cast(ExplainingModel, model)


def write_attention(
    source: FrameSource,
    tracks: Tracks,
    model: StreamingModel,
    settings: PredictorSettings,
    folder: str | Path,
    category_names: Mapping[int, str],
    on_frame: Callable[[], object] | None = None,
) -> None:
    """Run the model over a video again and draw what it looks at.

    ``attention/id_NNN/FFFFFF.png``, one file per track and frame that has a mask: the object, the
    prior masks of the clip, and the last layer's attention, brightest where it is strongest in the
    clip.

    Args:
        source (FrameSource): the video of the tracks.
        tracks (Tracks): its tracks.
        model (StreamingModel): the one that found them.
        settings (PredictorSettings): with which it found them.
        folder (str | Path): where to write.
        category_names (Mapping[int, str]): name of each category id.
        on_frame (Callable | None): called after every frame, to show progress.

    Raises:
        VideoError: if the video cannot be read or a picture not written.
        ValueError: if the model has no such head.
    """
    explaining = require_attention(model)
    slots = sorted({track.slot for track in tracks})
    places = {track.id: slots.index(track.slot) for track in tracks}
    root, objects, state, number = Path(folder) / "attention", tracks.frames(), model.start(), 0
    with torch.inference_mode(), explaining.record_attention(slots) as found:
        for frames, clip in _clips(source, model.clip_len, settings):
            output, state = model.forward_clip(clip, state)
            assert output is not None, "a model with this head gives each clip's masks at once"
            maps = found.pop()
            for t, (frame, items) in enumerate(zip(frames, objects, strict=False)):
                for item in items:
                    picture = _draw(frame, item, maps, places[item.id], t, output, category_names)
                    _write(root / f"id_{item.id:03d}" / f"{number:06d}.png", picture)
                number += 1
                if on_frame is not None:
                    on_frame()


def _clips(
    source: FrameSource, length: int, settings: PredictorSettings
) -> Iterator[tuple[list[Frame], Tensor]]:
    """Yield the frames of each clip and the network's input."""
    buffer = ClipBuffer(length, short_edge=settings.short_edge, longest_edge=settings.longest_edge)
    frames: list[Frame] = []
    for frame, _ in source:
        frames.append(frame.copy())
        clip = buffer.push(frame)
        if clip is not None:
            yield frames, clip
            frames = []
    clip = buffer.flush()
    if clip is not None:
        yield frames, clip


def _draw(
    frame: Frame,
    item: FrameObject,
    maps: AttentionMaps,
    place: int,
    t: int,
    output: ClipOutput,
    category_names: Mapping[int, str],
) -> Frame:
    """Draw the three panels of one object in frame ``t`` of the clip."""
    size = (frame.shape[0], frame.shape[1])

    def enlarge(part: Tensor) -> NDArray[np.float32]:
        full = resample_logits(
            part.float()[None, None], output.padded_size, output.image_size, size
        )
        values: NDArray[np.float32] = full[0, 0].cpu().numpy()
        return values

    overlay = frame.copy()
    draw_overlay(overlay, [item], category_names)
    weights = maps.weights[place]
    priors = draw_priors(
        frame,
        enlarge(maps.visible_prior[place]) > 0.5,
        enlarge(maps.amodal_prior[place]) > 0.5,
    )
    heat = draw_heat(frame, enlarge(weights[t] / weights.max()))
    return side_by_side([overlay, priors, heat], _TITLES)


def _write(path: Path, picture: Frame) -> None:
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise VideoError(f"write_attention: expected to encode {path}, got a failure")
    with atomic_write(path) as temporary:
        temporary.write_bytes(data.tobytes())
