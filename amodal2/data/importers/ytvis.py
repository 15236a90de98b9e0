"""YouTube-VIS 2019 and 2021, and OVIS: visible masks only.

Their JSON has the layout of video datasets already: uncompressed RLEs per frame in
``segmentations``. The release is recognised by its categories.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal2.data.importers.video_import import SourceVideo
from amodal2.structures.video_json import VideoDataset, read_video_json
from amodal2.utils.errors import AnnotationError

PUBLISHED = {
    "YouTube-VIS 2019": {"train": 2_238, "valid": 302, "test": 343},
    "YouTube-VIS 2021": {"train": 2_985, "valid": 421, "test": 453},
    "OVIS": {"train": 607, "valid": 140, "test": 154},
}
"""Videos by release and split; only the annotations of the training sets are public."""

_PERSON_IDS = {(40, 1): "YouTube-VIS 2019", (40, 26): "YouTube-VIS 2021", (25, 1): "OVIS"}
"""Number of categories and id of the category "person" -> release."""


def read_ytvis(
    file: str | Path, frames: str, keep: dict[str, str] | None = None
) -> tuple[str, list[str], Iterator[SourceVideo]]:
    """Read a file with public annotations.

    Args:
        file: JSON file.
        frames: folder of the frames (``train/JPEGImages``, OVIS: ``train``), relative to the folder
            of the JSON that will be written.
        keep: categories to keep, by their names in the release, and their new names; videos without
            any object of these are left out. None keeps everything.

    Returns:
        tuple: the release, the names of the categories in the order of their ids, the videos.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if the file has no annotations or is of none of the releases; naming what
            cannot be read.
        ValueError: if a category to keep is not one of the release.
    """
    dataset = read_video_json(file)
    names = [str(entry["name"]) for entry in dataset.categories]
    person = [e["id"] for e in dataset.categories if str(e["name"]).lower() == "person"]
    release = _PERSON_IDS.get((len(names), person[0] if person else 0))
    ids = [entry["id"] for entry in dataset.categories]
    if release is None or ids != list(range(1, len(ids) + 1)):
        raise AnnotationError(
            "read_ytvis: expected the categories of YouTube-VIS 2019, 2021 or OVIS, got "
            f"{len(names)}: {', '.join(names[:5])} ...",
            file=file,
            key="categories",
        )
    if not dataset.annotations:
        raise AnnotationError(
            "read_ytvis: expected annotations, got none; those of validation and test sets are not "
            "public",
            file=file,
            key="annotations",
        )
    unknown = sorted(set(keep or ()) - set(names))
    if unknown:
        raise ValueError(f"read_ytvis: expected categories of {release} ({names}), got {unknown}")
    if keep is None:
        return release, names, _read_videos(dataset, {name: name for name in names}, frames)
    return release, list(keep.values()), _read_videos(dataset, keep, frames)


def _read_videos(dataset: VideoDataset, keep: dict[str, str], frames: str) -> Iterator[SourceVideo]:
    names = {entry["id"]: keep.get(str(entry["name"])) for entry in dataset.categories}
    tracks: dict[int, list[dict[str, Any]]] = {}
    for track in dataset.annotations:
        if names[track["category_id"]] is not None:
            tracks.setdefault(track["video_id"], []).append(track)
    everything = len(keep) == len(names)
    for entry in dataset.videos:
        if not everything and entry["id"] not in tracks:
            continue
        if not entry.get("file_names"):
            raise AnnotationError(
                "read_ytvis: expected file_names, got none",
                file=dataset.file,
                video_id=entry["id"],
                key="file_names",
            )
        files = [(Path(frames) / name).as_posix() for name in entry["file_names"]]
        name = Path(entry["file_names"][0]).parent.as_posix()
        video = SourceVideo(name, entry["height"], entry["width"], files)
        for track in tracks.get(entry["id"], ()):
            category = str(names[track["category_id"]])
            for frame, mask in enumerate(track["segmentations"]):
                if mask is not None:
                    video.masks(track["id"], category, frame).visible = mask
        yield video
