"""How hard a dataset is: counts over its annotations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_HIDDEN = 0.2
_RUN = 3
_TOUCHED = 0.01


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


@dataclass(frozen=True)
class ImageStatistics:
    """Counts over the objects of an image dataset.

    Attributes:
        images (int): images with objects.
        objects (int): objects.
        occluded (float): share of the objects that are more than 1 % hidden.
        mean_rate (float): mean occlusion rate of these.
        heavy (float): share of the objects that are more than half hidden.
    """

    images: int
    objects: int
    occluded: float
    mean_rate: float
    heavy: float

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{self.images} images, {self.objects} objects, {100 * self.occluded:.1f} % of them "
            f"occluded (on average {100 * self.mean_rate:.1f} % hidden), "
            f"{100 * self.heavy:.1f} % more than half hidden"
        )


def measure_images(annotations: list[dict[str, Any]]) -> ImageStatistics:
    """Count over the objects of an image dataset.

    Args:
        annotations (list[dict]): records with ``image_id`` and ``occlusion_rate``.

    Returns:
        ImageStatistics: zeros where there is nothing to count.
    """
    rates = np.array([record["occlusion_rate"] for record in annotations])
    occluded = rates[rates > _TOUCHED]
    return ImageStatistics(
        len({record["image_id"] for record in annotations}),
        len(rates),
        len(occluded) / max(len(rates), 1),
        float(occluded.mean()) if len(occluded) else 0.0,
        float((rates > 0.5).mean()) if len(rates) else 0.0,
    )
