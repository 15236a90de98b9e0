"""What the preparation scripts share: convert, read the result back, say what was done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from amodal2.data.importers.video_import import SourceVideo, VideoImport
from amodal2.structures.video_json import VideoDataset, read_video_json

PROBLEMS = (ValueError, OSError)
"""What readers raise at input that they cannot take."""


def convert(
    read: Callable[[], Iterable[SourceVideo]],
    out: Path,
    logger: logging.Logger,
    *,
    categories: list[str] | None = None,
    visible_only: bool = False,
    published: dict[str, int] | None = None,
) -> int:
    """Convert one source and report what was counted, changed and left out.

    Args:
        read: returns the videos of the source.
        out: JSON file to write.
        logger: where the report goes.
        categories: names in the order of their ids; None takes those found, sorted.
        visible_only: the source has no amodal masks.
        published: published counts by the names of the report; others are warned about.

    Returns:
        int: exit status, 2 if the source cannot be read; then nothing is written.
    """
    collected = VideoImport(categories, visible_only)
    try:
        for video in read():
            collected.add(video)
        collected.write(out)
        dataset = read_video_json(out)
    except PROBLEMS as error:
        logger.error("%s: %s", logger.name, error)
        return 2
    for what, count in collected.report.items():
        logger.info("%10d %s", count, what)
    for what, count in (published or {}).items():
        if collected.report[what] != count:
            logger.warning("%s: %d published, %d found", what, count, collected.report[what])
    _warn_of_missing_frames(dataset, out.parent, logger)
    logger.info("%s: categories %s", out, [entry["name"] for entry in dataset.categories])
    return 0


def _warn_of_missing_frames(dataset: VideoDataset, folder: Path, logger: logging.Logger) -> None:
    names = [name for video in dataset.videos for name in video["file_names"]]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        logger.warning(
            "%d of %d frames named in the file do not exist, the first is %s",
            len(missing),
            len(names),
            folder / missing[0],
        )
