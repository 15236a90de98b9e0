"""Test samples of the object track mapper through a completer."""

from __future__ import annotations

from typing import Any

import torch

from amodal2.modeling.completion.base import Completer
from amodal2.modeling.completion.video import CompletionSettings, complete_video
from amodal2.structures.track import Track
from amodal2.utils.frames import open_frames


def complete_sample(
    completer: Completer, sample: dict[str, Any], compose: str, device: torch.device
) -> dict[str, Any]:
    """Complete the annotated visible masks of a video.

    Args:
        completer: the method.
        sample: of ``ObjectTrackMapper`` in test mode.
        compose: see ``CompletionSettings``.
        device: where the completer runs.

    Returns:
        dict: "prediction", a ``VideoPrediction`` with the annotations' ids and classes, scores 1.
    """
    tracks = [
        Track(record["id"], record["category_id"], 1.0, record["segmentations"])
        for record in sample["annotations"]
    ]
    settings = CompletionSettings(compose=compose, device=str(device))
    with open_frames(sample["source"]) as source:
        found = complete_video(completer, source, tracks, settings, flow=sample["flow"])[0]
    found.video_id = sample["video_id"]
    return {"prediction": found}
