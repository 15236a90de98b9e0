"""Video datasets with visible and amodal masks as Detectron2 datasets.

The file format is documented in :mod:`amodal2.structures.video_json`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from amodal2.data.datasets.catalog import register_dataset
from amodal2.data.datasets.categories import store_categories
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.video_json import VideoDataset, read_video_json

EVALUATOR_TYPE = "video_amodal"
"""``evaluator_type`` in the metadata of every dataset of this form."""


def load_video_amodal_json(
    json_file: str | Path,
    root: str | Path,
    name: str | None = None,
    *,
    strict: bool = False,
    skip_invalid: bool = False,
) -> list[dict[str, Any]]:
    """Load a video dataset as one dict per video.

    Keys of a dict: ``video_id, height, width, length``, the frames as ``file_names`` (T absolute
    paths) or the video as ``file_name``, and ``annotations``: dicts with ``id``, ``category_id``
    (contiguous, from 0), ``iscrowd``, ``segmentations`` and ``amodal_segmentations`` (T compressed
    RLEs or None each; the amodal list is None as a whole where the file has no amodal masks).
    Optical flow has absolute paths too: ``flow_file`` (an archive) or ``flow_files``,
    and depth: ``depth_files``. Further keys
    of the file's video entries (``depth_order``) are passed on as they are.

    Args:
        json_file: annotation file.
        root: folder that the frame and video paths in the file are relative to.
        name: dataset name; if given, class names and the id map are stored in its metadata.
        strict: stop at doubtful annotations too, see ``read_video_json``.
        skip_invalid: leave invalid records out instead of stopping.

    Returns:
        list[dict]: one per video, in the order of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: naming file, video, annotation and key of an invalid entry; or if the
            dataset was registered with other categories.
    """
    dataset = read_video_json(json_file, strict=strict, skip_invalid=skip_invalid)
    id_map = {category["id"]: index for index, category in enumerate(dataset.categories)}
    if name is not None:
        store_categories(
            name, {entry["id"]: entry["name"] for entry in dataset.categories}, json_file
        )
    return _to_dicts(dataset, os.path.abspath(root), id_map)


def register_video_amodal_instances(
    name: str,
    json_file: str | Path,
    root: str | Path,
    *,
    categories: dict[int, str] | None = None,
    skip_invalid: bool = False,
) -> None:
    """Register a video dataset; the file is read when the dataset is first asked for.

    Args:
        name: dataset name, ``<name>_<year or version>_amodal_<split>``.
        json_file: annotation file.
        root: folder that the frame and video paths in the file are relative to.
        categories: category id -> name where they are known beforehand, so that the metadata have
            the class names without the file; a file with others is refused.
        skip_invalid: leave invalid records out instead of stopping.

    Raises:
        ValueError: if the name is taken.
    """
    register_dataset(
        name,
        lambda: load_video_amodal_json(json_file, root, name, skip_invalid=skip_invalid),
        json_file,
        categories=categories,
        root=str(root),
        evaluator_type=EVALUATOR_TYPE,
    )


def _to_dicts(dataset: VideoDataset, root: str, id_map: dict[int, int]) -> list[dict[str, Any]]:
    tracks: dict[int, list[dict[str, Any]]] = {video["id"]: [] for video in dataset.videos}
    for record in dataset.annotations:
        tracks[record["video_id"]].append(
            {
                "id": record["id"],
                "category_id": id_map[record["category_id"]],
                "iscrowd": record["iscrowd"],
                VISIBLE_KEY: record[VISIBLE_KEY],
                AMODAL_KEY: record.get(AMODAL_KEY),
            }
        )
    dicts = []
    for video in dataset.videos:
        entry = {key: value for key, value in video.items() if key != "id"}
        entry["video_id"] = video["id"]
        if video.get("file_names") is not None:
            entry["file_names"] = [os.path.join(root, path) for path in video["file_names"]]
        if video.get("file_name") is not None:
            entry["file_name"] = os.path.join(root, video["file_name"])
        if video.get("flow_file") is not None:
            entry["flow_file"] = os.path.join(root, video["flow_file"])
        for key in ("flow_files", "depth_files"):
            if video.get(key) is not None:
                entry[key] = [
                    None if path is None else os.path.join(root, path) for path in video[key]
                ]
        entry["annotations"] = tracks[video["id"]]
        dicts.append(entry)
    return dicts
