"""The whole way of one video: tracks, ``tracks.json``, pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from amodal2.utils.frame_source import FrameSource
from amodal2.utils.frames import folder_name
from amodal2.utils.logging import get_logger
from amodal2.video.exports import write_coco, write_ytvis
from amodal2.video.pictures import PICTURES, write_pictures
from amodal2.video.predictor import predict_video
from amodal2.video.reader import VideoInput
from amodal2.video.streaming import PredictorSettings, StreamingModel
from amodal2.video.tracks import Tracks

SAVEABLE = PICTURES | {"json", "coco", "ytvis"}
"""What :func:`process_video` can write."""

logger = get_logger(__name__)

CompleteTracks = Callable[[FrameSource, Tracks, Callable[[], object]], Tracks]
"""Takes the video, its tracks, and what to call after every frame."""


class Progress(Protocol):
    """Shows how far a pass over the video is, as ``tqdm`` does."""

    def update(self) -> object:
        """Count one frame."""


ProgressFactory = Callable[[str, int | None], AbstractContextManager[Progress]]
"""Takes a title and the number of frames, where known."""


def process_video(
    video: VideoInput,
    model: StreamingModel,
    settings: PredictorSettings,
    folder: str | Path,
    category_names: Mapping[int, str],
    *,
    save: Collection[str] = ("overlay", "json"),
    fps: float = 25.0,
    progress: ProgressFactory,
    complete: CompleteTracks | None = None,
) -> int:
    """Find the tracks of a video in a first pass, then write them and draw them in a second one.

    Args:
        video (VideoInput): the video.
        model (StreamingModel): in evaluation mode.
        settings (PredictorSettings): how frames become tracks.
        folder (str | Path): where ``tracks.json``, ``coco.json`` with ``coco_results.json``,
            ``ytvis.json`` and the pictures go.
        category_names (Mapping[int, str]): name of each category id.
        save (Collection[str]): a part of ``SAVEABLE``.
        fps (float): frames per second assumed for images.
        progress (Callable): makes a progress display for each pass.
        complete (Callable | None): puts other amodal masks in place of the model's, in a pass of
            its own.

    Returns:
        int: number of tracks.

    Raises:
        VideoError: if the video cannot be read or a result cannot be written.
    """
    folder = Path(folder)
    begin = time.perf_counter()
    with video.open(fps) as source:
        with progress(f"{video.name}: tracking", source.length) as bar:
            found = predict_video(model, source, settings, bar.update)
        tracked = time.perf_counter()
        if complete is not None and len(found):
            with found, progress(f"{video.name}: completing", source.length) as bar:
                found = complete(source, found, bar.update)
        with found as tracks:
            if not len(tracks):
                logger.warning(
                    "%s: nothing found with a score of at least %g",
                    video.name,
                    settings.score_threshold,
                )
            if "json" in save:
                tracks.write_json(
                    folder / "tracks.json",
                    file_name=folder_name(video.path) if video.images else video.path.name,
                    category_names=category_names,
                    fps=source.fps,
                )
            _export(video, tracks, folder, category_names, save)
            pictures = PICTURES.intersection(save)
            if pictures:
                with progress(f"{video.name}: drawing", tracks.length) as bar:
                    write_pictures(source, tracks, folder, pictures, category_names, bar.update)
            end = time.perf_counter()
            logger.info(
                "%s: %.1f s for %d frames, %.1f %% of it for drawing and writing",
                video.name,
                end - begin,
                tracks.length,
                100 * (end - tracked) / (end - begin),
            )
            return len(tracks)


def _export(
    video: VideoInput,
    tracks: Tracks,
    folder: Path,
    category_names: Mapping[int, str],
    save: Collection[str],
) -> None:
    """Write the layouts of other tools; frames keep the names of their files."""
    files = [f"{image.parent.resolve().name}/{image.name}" for image in video.images]
    files = files[: tracks.length]
    if "coco" in save:
        write_coco(tracks, folder, name=video.name, category_names=category_names, file_names=files)
    if "ytvis" in save:
        write_ytvis(
            tracks,
            folder / "ytvis.json",
            file_name=video.path.name,
            category_names=category_names,
            file_names=files,
        )
