"""The whole way of a stream: tracks and pictures while it goes on."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from amodal2.structures.frame_object import TrackedFrame
from amodal2.structures.rle import rle_box
from amodal2.structures.tube_track import MaskKinds
from amodal2.utils.frame_source import Frame
from amodal2.utils.live_stream import LiveStream
from amodal2.utils.logging import get_logger
from amodal2.video.live import LivePredictor
from amodal2.video.pictures import PICTURES, PictureWriter
from amodal2.video.run import ProgressFactory
from amodal2.video.streaming import PredictorSettings, StreamingModel

LIVE_SAVEABLE = PICTURES | {"json"}
"""What :func:`process_stream` can write."""

_GONE_SECONDS = 5.0  # after which an object that comes back is a new one, where nothing is set

logger = get_logger(__name__)


def process_stream(
    stream: LiveStream,
    model: StreamingModel,
    settings: PredictorSettings,
    folder: str | Path,
    category_names: Mapping[int, str],
    *,
    save: Collection[str] = ("overlay", "json"),
    progress: ProgressFactory,
) -> int:
    """Track and draw a stream until it ends or the user interrupts it (Ctrl-C, SIGINT).

    Nothing but the frames of one clip is kept. ``tracks.jsonl`` grows line by line: first an object
    with ``video`` and ``categories``, then one per frame with ``frame, seconds, objects``, and of
    each object ``id, category_id, score`` and where predicted ``segmentation, bbox,
    amodal_segmentation, amodal_bbox``, null where there is none.

    Args:
        stream (LiveStream): the stream.
        model (StreamingModel): in evaluation mode.
        settings (PredictorSettings): how frames become tracks; ``max_gone_frames`` None stands for
            five seconds.
        folder (str | Path): where to write.
        category_names (Mapping[int, str]): name of each category id.
        save (Collection[str]): a part of ``LIVE_SAVEABLE``.
        progress (Callable): makes a progress display.

    Returns:
        int: number of frames.

    Raises:
        ValueError: if ``save`` asks for what needs the end of the video first.
        VideoError: if a result cannot be written.
    """
    if not LIVE_SAVEABLE.issuperset(save):
        raise ValueError(
            f"process_stream: expected save among {sorted(LIVE_SAVEABLE)}, got "
            f"{sorted(set(save) - LIVE_SAVEABLE)}, which need the whole video; record it first"
        )
    if settings.max_gone_frames is None:
        settings = replace(settings, max_gone_frames=round(_GONE_SECONDS * stream.fps))
    folder = Path(folder)
    predictor = LivePredictor(model, settings)
    waiting: deque[tuple[int, Frame, float]] = deque()
    with ExitStack() as stack:
        pictures = stack.enter_context(PictureWriter(stream, folder, save, category_names))
        lines = None
        if "json" in save:
            folder.mkdir(parents=True, exist_ok=True)
            lines = stack.enter_context((folder / "tracks.jsonl").open("w", encoding="utf-8"))
            _write_head(lines, stream, category_names)

        def hand_out(ready: list[TrackedFrame]) -> None:
            for tracked in ready:
                index, frame, seconds = waiting.popleft()
                while index < tracked.index:  # an interrupt came between
                    index, frame, seconds = waiting.popleft()
                if lines is not None:
                    _write_line(lines, seconds, tracked, predictor.kinds)
                pictures.write(frame, seconds, tracked, predictor.kinds)

        count = 0
        bar = stack.enter_context(progress(f"{stream.name}: tracking", None))
        try:
            for frame, seconds in stream:
                waiting.append((count, frame, seconds))
                hand_out(predictor.push(frame))
                count += 1
                bar.update()
        except KeyboardInterrupt:
            logger.info("%s: interrupted after %d frames", stream.name, count)
        hand_out(predictor.finish())
    if stream.dropped:
        logger.warning(
            "%s: %d frames came too fast and were left out, %d were tracked",
            stream.name,
            stream.dropped,
            count,
        )
    return count


def _write_head(lines: TextIO, stream: LiveStream, category_names: Mapping[int, str]) -> None:
    video = {"name": stream.name, "width": stream.width, "height": stream.height}
    categories = [{"id": key, "name": name} for key, name in sorted(category_names.items())]
    lines.write(json.dumps({"video": {**video, "fps": stream.fps}, "categories": categories}))
    lines.write("\n")


def _write_line(lines: TextIO, seconds: float, tracked: TrackedFrame, kinds: MaskKinds) -> None:
    objects = []
    for item in tracked.objects:
        entry: dict[str, Any] = {
            "id": item.id,
            "category_id": item.category_id,
            "score": item.score,
        }
        masks = (("", kinds.visible, item.visible), ("amodal_", kinds.amodal, item.amodal))
        for prefix, predicted, rle in masks:
            if predicted:
                entry[f"{prefix}segmentation"] = rle
                entry[f"{prefix}bbox"] = None if rle is None else list(rle_box(rle))
        objects.append(entry)
    lines.write(json.dumps({"frame": tracked.index, "seconds": seconds, "objects": objects}))
    lines.write("\n")
    lines.flush()
