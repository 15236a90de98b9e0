"""Tiny video datasets whose scores can be worked out by hand: bars on frames of 4 x 20 pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from amodal2.structures.rle import encode_mask
from amodal2.structures.video_json import VideoDataset, read_video_json

SIZE = (4, 20)
LENGTH = 3
FISH, CRAB = 3, 7
"""Category ids, with a gap on purpose."""


def bar(start: int, stop: int, rows: int = 4) -> dict:
    """Return the RLE of columns start to stop in the upper rows."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[:rows, start:stop] = True
    return encode_mask(mask)


def tube(*masks: dict | None) -> list:
    """Return LENGTH masks; a single one is repeated."""
    return list(masks) if len(masks) > 1 else list(masks) * LENGTH


def track(number: int, video: int = 1, category: int = FISH, **lists: object) -> dict:
    """Return a ground-truth record that is visible as a 10-pixel-wide bar unless told otherwise."""
    record = {"id": number, "video_id": video, "category_id": category, "iscrowd": 0}
    return record | {"segmentations": tube(bar(0, 10)), **lists}


def prediction(score: float, video: int = 1, category: int = FISH, **lists: object) -> dict:
    """Return a predicted record; masks are given by keyword."""
    return {"video_id": video, "category_id": category, "score": score, **lists}


def content(*tracks: dict, videos: int = 1) -> dict:
    """Return the content of an annotation file."""
    height, width = SIZE
    return {
        "videos": [
            {
                "id": number,
                "height": height,
                "width": width,
                "length": LENGTH,
                "file_names": [f"clip{number}/{t}.png" for t in range(LENGTH)],
            }
            for number in range(1, videos + 1)
        ],
        "categories": [{"id": CRAB, "name": "crab"}, {"id": FISH, "name": "fish"}],
        "annotations": list(tracks),
    }


def write(folder: Path, data: object) -> Path:
    """Write an annotation file."""
    path = folder / "gt.json"
    path.write_text(json.dumps(data))
    return path


def dataset(folder: Path, *tracks: dict, videos: int = 1) -> VideoDataset:
    """Write and read an annotation file."""
    return read_video_json(write(folder, content(*tracks, videos=videos)))
