"""Which predicted track is which true object: completions of predicted tracks get a mIoU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amodal2.evaluation.overlaps import measure_tubes
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.video_json import VideoDataset

Record = dict[str, Any]


def pair_tracks(
    dataset: VideoDataset, predictions: Iterable[Record], threshold: float = 0.5
) -> list[Record]:
    """Give every true object the predicted track whose visible masks fit best.

    Classes and scores do not matter, and a track may fit several objects, so that all methods that
    complete the same visible tracks are judged on the same pairs.

    Args:
        dataset: the ground truth, with visible masks.
        predictions: valid tracks with ``video_id``, ``segmentations`` and
            ``amodal_segmentations``, see :mod:`amodal2.evaluation.prediction_files`.
        threshold: least IoU of the visible tubes, in [0, 1].

    Returns:
        list[Record]: completions (``gt_id``, ``video_id``, ``amodal_segmentations``) of the objects
        that a track fits, see :mod:`amodal2.evaluation.completion_input`.
    """
    truth: dict[int, list[Record]] = {}
    found: dict[int, list[Record]] = {}
    for records, groups in ((dataset.annotations, truth), (predictions, found)):
        for record in records:
            groups.setdefault(record["video_id"], []).append(record)
    paired = []
    for video in dataset.videos:
        number = video["id"]
        objects, tracks = truth.get(number, []), found.get(number, [])
        if not objects or not tracks:
            continue
        own, predicted = (
            measure_tubes([one[VISIBLE_KEY] for one in records]) for records in (objects, tracks)
        )
        ious = predicted.overlaps(own, video["length"]).tubes
        for column, best in enumerate(ious.argmax(axis=0).tolist()):
            if ious[best, column] >= threshold:
                masks = tracks[best][AMODAL_KEY]
                paired.append(
                    {"gt_id": objects[column]["id"], "video_id": number, AMODAL_KEY: masks}
                )
    return paired
