"""What the preparation scripts share: convert, read the result back, say what was done."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

from amodal2.data.importers.box_import import BoxImport, BoxVideo
from amodal2.data.importers.image_import import ImageImport, SourceImage
from amodal2.data.importers.video_import import SourceVideo, VideoImport
from amodal2.structures.image_json import read_image_json
from amodal2.structures.video_json import VideoDataset, read_video_json
from amodal2.utils.errors import MissingDependencyError, VideoError

PROBLEMS = (ValueError, OSError, VideoError, MissingDependencyError)
"""What readers raise at input that they cannot take, or for want of an optional library."""


def convert_videos(
    read: Callable[[], Iterable[SourceVideo]],
    out: Path,
    logger: logging.Logger,
    *,
    categories: list[str] | None = None,
    visible_only: bool = False,
    published: dict[str, int] | None = None,
) -> int:
    """Convert videos and report what was counted, changed and left out.

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
    if not _collect(collected, read, out, logger):
        return 2
    dataset = read_video_json(out)
    _report(collected, published, logger)
    _warn_of_missing_frames(dataset, out.parent, logger)
    logger.info("%s: categories %s", out, [entry["name"] for entry in dataset.categories])
    return 0


def convert_images(
    open_source: Callable[[ImageImport], tuple[dict[int, str], Iterable[SourceImage]]],
    out: Path,
    logger: logging.Logger,
    *,
    published: Callable[[ImageImport], dict[str, int]] | None = None,
) -> int:
    """Convert images and report what was counted, changed and left out.

    Args:
        open_source: returns category id -> name and the images of the source; it may count in the
            report of the import that it is given.
        out: JSON file to write.
        logger: where the report goes.
        published: returns published counts by the names of the report; others are warned about.

    Returns:
        int: exit status, 2 if the source cannot be read; then nothing is written.
    """
    collected = ImageImport({})

    def read() -> Iterable[SourceImage]:
        collected.categories, images = open_source(collected)
        return images

    if not _collect(collected, read, out, logger):
        return 2
    read_image_json(out)
    _report(collected, published(collected) if published else None, logger)
    logger.info("%s: categories %s", out, list(collected.categories.values()))
    return 0


def convert_boxes(
    open_source: Callable[[BoxImport], Iterable[BoxVideo]],
    out: Path,
    logger: logging.Logger,
    *,
    published: dict[str, int],
) -> int:
    """Convert videos with amodal boxes and report what was counted and left out.

    Args:
        open_source: returns the videos of the source; sets the categories of the import that it is
            given and may count in its report.
        out: JSON file to write.
        logger: where the report goes.
        published: published counts by the names of the report, read when the source is; others are
            warned about.

    Returns:
        int: exit status, 2 if the source cannot be read; then nothing is written.
    """
    collected = BoxImport()
    if not _collect(collected, lambda: open_source(collected), out, logger):
        return 2
    dataset = read_video_json(out)
    _report(collected, published, logger)
    _warn_of_missing_frames(dataset, out.parent, logger)
    logger.info("%s: %d categories", out, len(dataset.categories))
    return 0


T = TypeVar("T", contravariant=True)


class _Import(Protocol[T]):
    def add(self, source: T, /) -> None: ...

    def write(self, path: Path, /) -> None: ...


def _collect(
    collected: _Import[T], read: Callable[[], Iterable[T]], out: Path, logger: logging.Logger
) -> bool:
    try:
        for source in read():
            collected.add(source)
        collected.write(out)
    except PROBLEMS as error:
        logger.error("%s: %s", logger.name, error)
        return False
    return True


def _report(
    collected: VideoImport | ImageImport | BoxImport,
    published: dict[str, int] | None,
    logger: logging.Logger,
) -> None:
    for what, count in collected.report.items():
        if count:
            logger.info("%10d %s", count, what)
    if published is not None and not published:
        logger.warning("no published counts to compare with for a file of this name")
    for what, count in (published or {}).items():
        if collected.report[what] != count:
            logger.warning("%s: %d published, %d found", what, count, collected.report[what])


def _warn_of_missing_frames(dataset: VideoDataset, folder: Path, logger: logging.Logger) -> None:
    names = [name for video in dataset.videos for name in video["file_names"]]
    # A name that is too long is that of no file; os.path says so, pathlib raises.
    missing = [name for name in names if not os.path.isfile(folder / name)]
    if missing:
        logger.warning(
            "%d of %d frames named in the file do not exist, the first is %s",
            len(missing),
            len(names),
            folder / missing[0],
        )
