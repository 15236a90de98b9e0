"""How hard a video dataset is: counts over its annotations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_HIDDEN = 0.2
_RUN = 3


@dataclass(frozen=True)
class DatasetStatistics:
    """Counts over one JSON of the video schema.

    Attributes:
        videos (int): videos.
        tracks (int): annotated tracks.
        fewest (int): tracks of the video with the fewest.
        most (int): tracks of the video with the most.
        hidden (float): share of the object-frames with an amodal mask that are more than 20 %
            hidden.
        vanishing (float): share of the tracks that are seen, then fully hidden for three frames or
            more while inside the picture, and then seen again.
    """

    videos: int
    tracks: int
    fewest: int
    most: int
    hidden: float
    vanishing: float

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{self.videos} videos, {self.tracks} tracks ({self.fewest} to {self.most} per video), "
            f"{100 * self.hidden:.1f} % of object-frames more than 20 % hidden, "
            f"{100 * self.vanishing:.1f} % of tracks vanish and come back"
        )


def measure_dataset(content: dict[str, Any]) -> DatasetStatistics:
    """Count over a dataset.

    Args:
        content (dict[str, Any]): the JSON with ``videos`` and ``annotations``.

    Returns:
        DatasetStatistics: zeros where there is nothing to count.
    """
    tracks = content["annotations"]
    per_video = Counter({video["id"]: 0 for video in content["videos"]})
    per_video.update(track["video_id"] for track in tracks)
    rates = [rate for track in tracks for rate in track["occlusion_rates"] if rate is not None]
    vanishing = [
        has_vanished(
            _present(track["segmentations"]), _present(track["amodal_segmentations"]), _RUN
        )
        for track in tracks
    ]
    return DatasetStatistics(
        len(content["videos"]),
        len(tracks),
        min(per_video.values(), default=0),
        max(per_video.values(), default=0),
        float(np.mean(np.asarray(rates) > _HIDDEN)) if rates else 0.0,
        float(np.mean(vanishing)) if vanishing else 0.0,
    )


def _present(masks: list[Any]) -> npt.NDArray[np.bool_]:
    """Tell in which frames there is a mask (bool [T])."""
    return np.array([mask is not None for mask in masks])


def has_vanished(visible: npt.NDArray[np.bool_], amodal: npt.NDArray[np.bool_], run: int) -> bool:
    """Tell whether a track is seen, then fully hidden for ``run`` frames, then seen again.

    Args:
        visible (bool [T]): frames with a visible pixel.
        amodal (bool [T]): frames with an amodal pixel.
        run (int): least number of consecutive hidden frames inside the picture.

    Returns:
        bool: whether it happens.
    """
    seen = False
    count = 0
    for now, present in zip(visible, amodal, strict=True):
        if now:
            if seen and count >= run:
                return True
            seen, count = True, 0
        else:
            count = count + 1 if present else 0
    return False
