"""Boxes of tracks: those that the records state, or the tight boxes of their masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amodal2.evaluation.overlaps import BoxTubes
from amodal2.structures.track import boxes_of
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import is_box

Record = dict[str, Any]


def box_tubes(
    records: Sequence[Record],
    box_key: str,
    mask_key: str,
    lengths: dict[int, int],
    *,
    file: str | Path | None = None,
) -> BoxTubes:
    """Collect the boxes of many tracks.

    Args:
        records: tracks with valid masks under ``mask_key`` or boxes under ``box_key``; a record
            with boxes needs no masks.
        box_key: key of the lists of [x, y, w, h] or None, one entry per frame.
        mask_key: key of the masks whose tight boxes stand in for missing lists.
        lengths: video id -> number of frames.
        file: where the records come from, for the messages.

    Returns:
        BoxTubes: one tube per record.

    Raises:
        AnnotationError: naming file, video, record and key, if a list does not have one entry per
            frame or an entry is no box: four finite numbers, the last two not negative.
    """
    tubes = []
    for position, record in enumerate(records):
        stated = record.get(box_key)
        length = lengths[record["video_id"]]
        if stated is None:
            stated = boxes_of(record[mask_key])
        else:
            problem = _problem(stated, length)
            if problem is not None:
                raise AnnotationError(
                    f"box_tubes: {problem} (record {position})",
                    file=file,
                    video_id=record["video_id"],
                    annotation_id=record.get("id"),
                    key=box_key,
                )
        absent = [np.nan] * 4
        tubes.append(np.array([box or absent for box in stated], dtype=np.float64))
    return BoxTubes(tubes)


def _problem(boxes: Any, length: int) -> str | None:
    if not isinstance(boxes, list) or len(boxes) != length:
        got = f"{len(boxes)} entries" if isinstance(boxes, list) else f"{boxes!r:.80}"
        return f"expected a list of {length} entries, one per frame, got {got}"
    for frame, box in enumerate(boxes):
        if box is not None and not is_box(box):
            return f"expected a box [x, y, w, h] or null in frame {frame}, got {box!r:.80}"
    return None
