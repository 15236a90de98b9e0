"""Data of ``tools/completion_table.py``: part of the aquarium, with stored flow."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from amodal2.structures.video_json import VideoDataset, read_video_json
from amodal2.utils.files import atomic_write, write_json
from amodal2.utils.frames import open_frames
from amodal2.utils.optical_flow import OpticalFlow, open_flow


def store_flow(paths: list[Path], file: Path, flow: OpticalFlow) -> None:
    """Estimate the flow of a video in both directions and write it as an archive.

    Args:
        paths: T frames.
        file: to write: ``forward`` and ``backward``, float16 [T, H, W, 2] in pixels, whose last and
            first field are 0.
        flow: estimates it.
    """
    with open_frames([str(path) for path in paths]) as source:
        frames = source.read(range(len(paths)))
    fields = np.zeros((2, *frames.shape[:3], 2), np.float16)
    for t in range(len(frames) - 1):
        fields[0, t] = flow(frames[t], frames[t + 1], t, 1)
        fields[1, t + 1] = flow(frames[t + 1], frames[t], t + 1, -1)
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, forward=fields[0], backward=fields[1])


def write_subset(source: Path, out: Path, count: int, crowds: Collection[str] = ()) -> Path:
    """Write the first videos of a dataset with stored flow; some classes only hide the others.

    Args:
        source: annotation file; the frames lie beside it.
        out: file to write; flow that the dataset does not have goes to ``flow`` beside it and is
            not made anew.
        count: of videos.
        crowds: names of the classes whose objects become crowds, which nothing learns from.

    Returns:
        Path: ``out``.

    Raises:
        ValueError: if the dataset has fewer videos or no such class.
    """
    dataset = read_video_json(source)
    names = {one["name"]: one["id"] for one in dataset.categories}
    if len(dataset.videos) < count or not set(crowds) <= set(names):
        raise ValueError(
            f"write_subset: expected {count} videos and the classes {sorted(crowds)} in {source}, "
            f"got {len(dataset.videos)} videos and {sorted(names)}"
        )
    folder = (out.parent / "flow").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    flow, videos = open_flow("dis"), []
    for video in dataset.videos[:count]:
        paths = [(source.parent / name).resolve() for name in video["file_names"]]
        file = folder / f"{paths[0].parent.name}.npz"
        if video.get("flow_file") is not None:
            file = (source.parent / video["flow_file"]).resolve()
        elif not file.is_file():
            store_flow(paths, file, flow)
        found = {"file_names": [str(path) for path in paths], "flow_file": str(file)}
        videos.append({**video, **found})
    hidden = {names[name] for name in crowds}
    write_json(out, _content(dataset, videos, hidden))
    return out


def _content(
    dataset: VideoDataset, videos: list[dict[str, Any]], hidden: set[int]
) -> dict[str, Any]:
    """Return the subset; videos in which nothing is left to learn from are left out."""
    tracks = [
        {**one, "iscrowd": 1 if one["category_id"] in hidden else one["iscrowd"]}
        for one in dataset.annotations
    ]
    learnt = {one["video_id"] for one in tracks if not one["iscrowd"]}
    kept = [video for video in videos if video["id"] in learnt]
    ids = {video["id"] for video in kept}
    return {
        "videos": kept,
        "categories": dataset.categories,
        "annotations": [one for one in tracks if one["video_id"] in ids],
    }
