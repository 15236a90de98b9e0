"""Ground truth of video datasets: JSON in the YTVIS layout with amodal keys, read and checked.

A file holds ``videos`` (id, width, height, length, and ``file_names`` or ``file_name``),
``categories`` (id, name) and ``annotations``: one record per track with id, video_id, category_id,
iscrowd and lists of one entry per frame: ``segmentations`` (visible masks) and, where known,
``amodal_segmentations``; optional ``bboxes, amodal_bboxes, areas, amodal_areas, occlusion_rates``.
None stands for "nothing in this frame". Files without any amodal masks (YTVIS, OVIS) are read too.
Masks may be compressed or uncompressed RLEs or polygons; here they become compressed RLEs, and
empty masks become None.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amodal2.structures.annotation_file import EntryChecks, parse_annotations
from amodal2.structures.mask_checks import (
    AMODAL_KEY,
    VISIBLE_KEY,
    Problem,
    count_doubts,
    normalise_masks,
    size_problem,
)
from amodal2.structures.packed_tube import pack_tube
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import BOX_FORM, LARGEST_AREA, is_box, is_number, is_text
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

_MASK_OF_LIST = {
    "bboxes": VISIBLE_KEY,
    "areas": VISIBLE_KEY,
    "amodal_bboxes": AMODAL_KEY,
    "amodal_areas": AMODAL_KEY,
    "occlusion_rates": AMODAL_KEY,
}
"""Per-frame list -> the masks in whose frames it has values."""


@dataclass
class VideoDataset:
    """Checked content of an annotation file.

    Args:
        file: path of the JSON file.
        videos: video entries, each with ``length``.
        categories: category entries in ascending order of their ids.
        annotations: track records in normal form; ``iscrowd`` is always present.
        skipped: number of records left out because they were invalid.
        warnings: text of each kind of doubtful content -> number of cases.
    """

    file: str
    videos: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    skipped: int = 0
    warnings: Counter[str] = field(default_factory=Counter)

    def has(self, key: str) -> bool:
        """Tell whether all tracks carry a list (true of a file without tracks).

        Args:
            key: key of the list, e.g. ``"amodal_segmentations"``.
        """
        return all(key in record for record in self.annotations)

    def pack(self) -> None:
        """Put packed tubes in place of the lists of masks, which take a third of the memory."""
        for track in self.annotations:
            for key in (VISIBLE_KEY, AMODAL_KEY):
                if key in track:
                    track[key] = pack_tube(track[key])


def read_video_json(
    file: str | Path, *, strict: bool = False, skip_invalid: bool = False
) -> VideoDataset:
    """Read and check an annotation file.

    Doubtful content (amodal masks before the first visible frame, visible pixels outside the amodal
    mask, occlusion rates outside [0, 1]) is counted and logged; it does not change the records.

    Args:
        file: path of the JSON file.
        strict: stop at doubtful content as well.
        skip_invalid: leave invalid videos and tracks out, count and log them, instead of stopping.

    Returns:
        VideoDataset: records in normal form, in the order of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: naming file, video, annotation and key of the first invalid entry.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"read_video_json: expected an annotation file, got no such file {path}; prepare the "
            "dataset or set DETECTRON2_DATASETS to its root"
        )
    reader = _Reader(str(path), skip_invalid, "read_video_json", "video")
    dataset = reader.read(
        parse_annotations(path, ("videos", "categories", "annotations"), "read_video_json")
    )
    for text, count in dataset.warnings.items():
        if strict:
            raise AnnotationError(
                f"read_video_json: expected nothing doubtful, got {text}: {count} cases in "
                "strict mode",
                file=path,
            )
        logger.warning("%s: %s: %d cases", path, text, count)
    if dataset.skipped:
        logger.warning("%s: %d invalid records left out", path, dataset.skipped)
    return dataset


class _Reader(EntryChecks):
    """Reads the entries of one file in their order."""

    def read(self, data: dict[str, Any]) -> VideoDataset:
        """Check everything, categories and videos before the tracks that refer to them."""
        categories = self.keep_categories(data["categories"])
        videos = self.keep(data["videos"], _video_problem, "video")
        by_id = {video["id"]: video for video in videos}
        known = {category["id"] for category in categories}

        def track_problem(record: dict[str, Any]) -> Problem | None:
            return _track_problem(record, by_id, known)

        tracks = self.keep(data["annotations"], track_problem, "annotation")
        broken = normalise_masks(tracks, by_id)
        for position, track in enumerate(tracks):
            missing = None if position in broken else _missing_value_problem(track)
            if missing is not None:
                broken[position] = missing
        for position, problem in broken.items():
            self.reject("annotation", tracks[position], problem)
        tracks = [track for position, track in enumerate(tracks) if position not in broken]
        warnings = count_doubts(tracks, by_id)
        if any(track["id"] < 1 for track in tracks):
            warnings["annotation ids below 1 (all ids were shifted to start at 1)"] = 1
            shift = 1 - min(track["id"] for track in tracks)
            for track in tracks:
                track["id"] += shift
        categories.sort(key=lambda category: category["id"])
        return VideoDataset(self.file, videos, categories, tracks, self.skipped, warnings)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _video_problem(video: dict[str, Any]) -> Problem | None:
    """Check a video entry and fill in ``length``."""
    problem = size_problem(video)
    if problem is not None:
        return problem
    names, name = video.get("file_names"), video.get("file_name")
    if names is None and name is None:
        return "file_names", "expected 'file_names' (frames) or 'file_name' (a video), got neither"
    if name is not None and not is_text(name):
        return "file_name", f"expected the path of the video, got {name!r:.80}"
    if names is not None:
        if not isinstance(names, list) or not all(map(is_text, names)):
            return "file_names", f"expected a list of paths, got {names!r:.80}"
        video.setdefault("length", len(names))
    if not _is_int(video.get("length")) or video["length"] < 1:
        return "length", f"expected a number of frames above 0, got {video.get('length')!r}"
    if names is not None and len(names) != video["length"]:
        return "file_names", f"expected {video['length']} paths (length), got {len(names)}"
    return None


def _track_problem(
    track: dict[str, Any], videos: dict[int, dict[str, Any]], categories: set[int]
) -> Problem | None:
    """Check a track's references and the lengths and gaps of its lists; fill in ``iscrowd``."""
    if not _is_int(track.get("video_id")) or track["video_id"] not in videos:
        return "video_id", f"expected the id of a video entry, got {track.get('video_id')!r}"
    if not _is_int(track.get("category_id")) or track["category_id"] not in categories:
        got = track.get("category_id")
        return "category_id", f"expected one of the category ids {sorted(categories)}, got {got!r}"
    if track.setdefault("iscrowd", 0) not in (0, 1):
        return "iscrowd", f"expected 0 or 1, got {track['iscrowd']!r}"
    track["iscrowd"] = int(track["iscrowd"])
    length = videos[track["video_id"]]["length"]
    if track.get(AMODAL_KEY) is None:
        track.pop(AMODAL_KEY, None)
    for key in (VISIBLE_KEY, AMODAL_KEY, *_MASK_OF_LIST):
        if key not in track and key != VISIBLE_KEY:
            continue
        values = track.get(key)
        if not isinstance(values, list):
            return key, f"expected a list of {length} entries (video length), got {values!r:.80}"
        if len(values) != length:
            return key, f"expected {length} entries (video length), got {len(values)}"
    return _gap_problem(track)


def _gap_problem(track: dict[str, Any]) -> Problem | None:
    """Find an entry that is no value or beside a null mask, or a visible mask without an amodal."""
    for key in _MASK_OF_LIST:
        for frame, value in enumerate(track.get(key, ())):
            problem = None if value is None else _value_problem(key, value)
            if problem is not None:
                return f"{key}[{frame}]", problem
    for key, mask_key in _MASK_OF_LIST.items():
        if key not in track or mask_key not in track:
            continue
        for frame, (value, mask) in enumerate(zip(track[key], track[mask_key], strict=True)):
            if mask is None and value is not None and value != 0:
                return (
                    f"{key}[{frame}]",
                    f"expected null where {mask_key} is null, got {value!r:.80}",
                )
    for frame, mask in enumerate(track[VISIBLE_KEY] if AMODAL_KEY in track else []):
        if mask is not None and track[AMODAL_KEY][frame] is None:
            return (
                f"{AMODAL_KEY}[{frame}]",
                "expected a mask where the visible mask is one, got null",
            )
    return None


def _value_problem(key: str, value: Any) -> str | None:
    """Tell what is wrong with a box, an area or a rate."""
    if key.endswith("bboxes"):
        return None if is_box(value) else f"expected {BOX_FORM}, got {value!r:.80}"
    if not is_number(value):
        return f"expected a finite number, got {value!r:.80}"
    if key.endswith("areas") and not 0 <= value <= LARGEST_AREA:
        return f"expected an area of 0 to {LARGEST_AREA:g} pixels, got {value!r:.80}"
    return None


def _missing_value_problem(track: dict[str, Any]) -> Problem | None:
    """Find a null entry beside a mask; for tracks whose empty masks are None already."""
    for key, mask_key in _MASK_OF_LIST.items():
        if key not in track or mask_key not in track:
            continue
        for frame, (value, mask) in enumerate(zip(track[key], track[mask_key], strict=True)):
            if mask is not None and value is None:
                return f"{key}[{frame}]", f"expected a value where {mask_key} has a mask, got null"
    return None
