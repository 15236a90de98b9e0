"""Read predicted tracks from files: plain lists of records, or what the video demo writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.packed_tube import pack_tube
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.errors import AnnotationError
from amodal2.utils.frames import VIDEO_SUFFIXES, folder_name
from amodal2.utils.json_input import is_id, is_text, read_json
from amodal2.utils.json_list import read_json_list
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

TRACKS_FILE = "tracks.json"
"""Name of the demo's track files, looked for in folders."""

_ID_KEYS = {
    "videos": ("id",),
    "categories": ("id",),
    "annotations": ("video_id", "category_id"),
}


def load_video_predictions(
    paths: Sequence[str | Path], dataset: VideoDataset
) -> list[dict[str, Any]]:
    """Read prediction records of one dataset.

    A file holds either a list of records with the ids of the dataset, or an object with ``videos,
    categories, annotations`` (``tracks.json``). The videos of the latter are matched to the dataset
    by name: the stem of ``file_name``, or for frames the name of their folder; its categories by
    their names. Predictions of categories that the dataset does not have are left out with a
    warning, if it has others of the file. Scores and masks are not checked here.

    Args:
        paths: files, or folders with ``tracks.json`` files at any depth.
        dataset: the ground truth.

    Returns:
        list[dict]: records with the ids of the dataset; masks that are compressed RLEs are packed
        (:mod:`amodal2.structures.packed_tube`), so that large files fit into memory.

    Raises:
        FileNotFoundError: if a path does not exist or a folder holds no such file.
        AnnotationError: if a file is no JSON of one of the two forms, an entry of ``tracks.json``
            is no object or has no valid id, or a video or category has no counterpart or several.
    """
    records: list[dict[str, Any]] = []
    origin: dict[int, Path] = {}
    for file in _find_files(paths):
        content = _parse(file)
        if isinstance(content, list):
            records += content
            continue
        content = _without_strangers(content, dataset, file)
        video_ids = _match_videos(content["videos"], dataset, file)
        category_ids = _match_categories(content["categories"], dataset, file)
        for video_id in video_ids.values():
            if video_id in origin:
                raise AnnotationError(
                    "load_video_predictions: expected the tracks of a video once, got them in "
                    f"{origin[video_id]} and {file}; hand in one of the two",
                    file=file,
                    video_id=video_id,
                )
            origin[video_id] = file
        for record in content["annotations"]:
            mapped = dict(record)
            for key, ids in (("video_id", video_ids), ("category_id", category_ids)):
                if record.get(key) not in ids:
                    raise AnnotationError(
                        f"load_video_predictions: expected a {key} listed in the same file, got "
                        f"{record.get(key)!r}",
                        file=file,
                        annotation_id=record.get("id"),
                        key=key,
                    )
                mapped[key] = ids[record[key]]
            records.append(_packed(mapped))
    return records


def video_name(entry: dict[str, Any]) -> str:
    """Return the name by which a video is known: its file's stem, or that of its frames' folder.

    Only suffixes of videos are left out, since the name of a folder may have a dot as well.

    Args:
        entry: video entry with ``file_name`` or ``file_names``.
    """
    if entry.get("file_name") is not None:
        path = PurePosixPath(entry["file_name"])
        return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
    return folder_name(PurePosixPath(entry["file_names"][0]).parent)


def _find_files(paths: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(path.rglob(TRACKS_FILE))
            if not found:
                raise FileNotFoundError(
                    f"load_video_predictions: expected {TRACKS_FILE} files below {path}, got none"
                )
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(
                f"load_video_predictions: expected a file or folder, got no such path {path}"
            )
    return files


def _parse(file: Path) -> Any:
    records = read_json_list(file, _packed)
    if records is not None:
        return records
    content = read_json(file, "load_video_predictions")
    if isinstance(content, list):
        return content
    for key in ("videos", "categories", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise AnnotationError(
                "load_video_predictions: expected a list of predictions, or an object with lists "
                "videos, categories and annotations",
                file=file,
                key=key,
            )
    for key, ids in _ID_KEYS.items():
        for position, entry in enumerate(content[key]):
            _check_entry(entry, f"{key}[{position}]", ids, file)
    return content


def _packed(record: Any) -> Any:
    """Pack the masks of a record, which take less memory then."""
    if isinstance(record, dict):
        for key in (VISIBLE_KEY, AMODAL_KEY):
            if key in record:
                record[key] = pack_tube(record[key])
    return record


def _check_entry(entry: Any, place: str, ids: tuple[str, ...], file: Path) -> None:
    """Stop at an entry that is no object, or has other than integer ids, or at a nameless video."""
    if not isinstance(entry, dict):
        raise AnnotationError(
            f"load_video_predictions: expected an object, got {entry!r:.80}", file=file, key=place
        )
    problem = None
    for key in ids:
        if not is_id(entry.get(key)):
            problem = f"an integer {key}, got {entry.get(key)!r:.80}", key
    if place.startswith("videos"):
        names = entry.get("file_names")
        first = names[0] if isinstance(names, list) and names else None
        if not is_text(first if entry.get("file_name") is None else entry["file_name"]):
            problem = "a file_name or a list of file_names, got neither", "file_name"
    if problem is not None:
        raise AnnotationError(
            f"load_video_predictions: expected {problem[0]}", file=file, key=f"{place}.{problem[1]}"
        )


def _without_strangers(
    content: dict[str, Any], dataset: VideoDataset, file: Path
) -> dict[str, Any]:
    """Leave out categories that the dataset does not have; none, if it has no other one either."""
    known = {category["name"] for category in dataset.categories}
    strange = {
        entry["id"]: entry["name"]
        for entry in content["categories"]
        if isinstance(entry.get("name"), str) and entry["name"] not in known
    }
    if not strange or len(strange) == len(content["categories"]):
        return content
    kept = [one for one in content["annotations"] if one["category_id"] not in strange]
    logger.warning(
        "%s: %d predictions of categories that the ground truth does not have (%s) left out",
        file,
        len(content["annotations"]) - len(kept),
        ", ".join(strange.values()),
    )
    categories = [one for one in content["categories"] if one["id"] not in strange]
    return {**content, "categories": categories, "annotations": kept}


def _match_videos(
    entries: list[dict[str, Any]], dataset: VideoDataset, file: Path
) -> dict[int, int]:
    known: dict[str, list[int]] = {}
    for video in dataset.videos:
        known.setdefault(video_name(video), []).append(video["id"])
    matched: dict[int, int] = {}
    for entry in entries:
        _refuse_second(entry, matched, "video", file)
        name = video_name(entry)
        candidates = known.get(name, [])
        if len(candidates) != 1:
            first = ", ".join(sorted(known)[:5])
            raise AnnotationError(
                f"load_video_predictions: expected one video named {name!r} in the ground truth "
                f"(it has {first}, ...), got {len(candidates)}; name the input of the demo "
                "like the video or frame folder of the dataset",
                file=file,
                video_id=entry.get("id"),
                key="file_name",
            )
        matched[entry["id"]] = candidates[0]
    return matched


def _match_categories(
    entries: list[dict[str, Any]], dataset: VideoDataset, file: Path
) -> dict[int, int]:
    known = {category["name"]: category["id"] for category in dataset.categories}
    matched: dict[int, int] = {}
    for entry in entries:
        _refuse_second(entry, matched, "category", file)
        if not isinstance(entry.get("name"), str) or entry["name"] not in known:
            raise AnnotationError(
                f"load_video_predictions: expected categories among {sorted(known)}, got "
                f"{entry.get('name')!r}; the model was trained on other classes",
                file=file,
                key="categories",
            )
        matched[entry["id"]] = known[entry["name"]]
    return matched


def _refuse_second(entry: dict[str, Any], matched: dict[int, int], kind: str, file: Path) -> None:
    if entry["id"] in matched:
        raise AnnotationError(
            f"load_video_predictions: expected unique {kind} ids, got {entry['id']} twice",
            file=file,
            key="id",
        )
