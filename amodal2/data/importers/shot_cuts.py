"""Camera cuts by PySceneDetect, and videos split at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from amodal2.data.importers.video_import import SourceVideo
from amodal2.utils.frames import read_image
from amodal2.utils.optional import require

CONTENT_THRESHOLD = 27.0
"""PySceneDetect's default for ``ContentDetector``; that of Diffusion-VAS is not published."""

# Stamps need some rate; cuts are counted in frames, so that it has no influence on them.
_RATE = 25.0


def find_cuts(
    frames: Iterable[np.ndarray], threshold: float = CONTENT_THRESHOLD, shortest: int = 1
) -> list[int]:
    """Find where the camera cuts, by the change of hue, saturation and brightness.

    Args:
        frames: arrays ``[H, W, 3]`` RGB uint8 in the order of time; read once, one at a time.
        threshold: mean change of the three per pixel, 0 to 255, from which on it is a cut.
        shortest: frames of the shortest shot; nearer cuts are merged.

    Returns:
        list[int]: index of the first frame of every shot but the first, ascending.

    Raises:
        MissingDependencyError: if PySceneDetect is not installed.
    """
    scenedetect = require("scenedetect", "datasets")
    detector = scenedetect.ContentDetector(threshold=threshold, min_scene_len=shortest)
    cuts = []
    stamp = None
    for index, frame in enumerate(frames):
        stamp = scenedetect.FrameTimecode(index, _RATE)
        cuts += detector.process_frame(stamp, np.ascontiguousarray(frame[:, :, ::-1]))
    if stamp is not None:
        cuts += detector.post_process(stamp)
    return sorted({int(cut.frame_num) for cut in cuts} - {0})


def split_at_cuts(
    videos: Iterable[SourceVideo],
    base: str | Path,
    report: Counter[str],
    threshold: float = CONTENT_THRESHOLD,
) -> Iterator[SourceVideo]:
    """Split videos into their shots; an object is another one after a cut.

    Args:
        videos: whose frames exist as image files.
        base: folder that the frame paths are relative to.
        report: receives the number of cuts.
        threshold: see :func:`find_cuts`.

    Yields:
        SourceVideo: the video itself if it has no cut; else one per shot, "(shot 1)" and so on
            behind the name.

    Raises:
        MissingDependencyError: if PySceneDetect is not installed.
        VideoError: if a frame cannot be read.
    """
    for video in videos:
        images = (read_image(Path(base) / name) for name in video.file_names)
        cuts = find_cuts(images, threshold)
        report["camera cuts at which videos were split"] += len(cuts)
        yield from _split(video, cuts) if cuts else (video,)


def _split(video: SourceVideo, cuts: list[int]) -> Iterator[SourceVideo]:
    borders = [0, *cuts, len(video.file_names)]
    for number, (start, stop) in enumerate(pairwise(borders), start=1):
        shot = SourceVideo(
            f"{video.name} (shot {number})",
            video.height,
            video.width,
            video.file_names[start:stop],
        )
        for key, (category, frames) in video.tracks.items():
            own = {t - start: masks for t, masks in frames.items() if start <= t < stop}
            if own:
                shot.tracks[key] = (category, own)
        yield shot
