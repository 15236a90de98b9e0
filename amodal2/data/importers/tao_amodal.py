"""TAO-Amodal: amodal boxes of objects in the videos of TAO, in its three layouts.

- "annotations" (``{train,validation,test}.json``): the layout of TAO; an annotation has
  ``amodal_bbox``, ``visibility`` and, where something of the object is seen, the modal ``bbox``.
- "evaluation" (``*_lvis_v1.json``): the same with the amodal box in ``bbox``, ``out_of_frame`` and
  categories of LVIS 1.0; the official evaluation reads it.
- "sequences" (``diffusion_vas_tao_amodal_val.json`` of Diffusion-VAS): a list of sequences of 25
  frames of one object with ``rles`` (counts of modal masks) and ``amodal_bboxes``.

Modal masks of the first two come from BURST, whose tracks are numbered from 1 in every video.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal2.data.importers.box_import import BoxImport, BoxVideo, ObjectBox, read_box
from amodal2.data.importers.burst import BurstMasks
from amodal2.data.importers.flat_coco import parse_categories
from amodal2.structures.mask_checks import Problem, size_problem
from amodal2.structures.rle import RLE, to_rle, validate_rle
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import check_entries, is_id, is_number, is_text, read_json

SEQUENCE_LENGTH = 25
"""Frames of a sequence of Diffusion-VAS."""

_LISTS: dict[str, dict[str, type]] = {
    "videos": {"id": int},
    "images": {"id": int, "video_id": int, "file_name": str, "frame_index": int},
    "annotations": {"image_id": int, "track_id": int, "category_id": int},
    "categories": {"id": int, "name": str},
}
"""Lists of a file in the layout of TAO -> keys that every entry needs, and their types."""

_SEQUENCE_KEYS = ("track_id", "category_id", "video_id", "file_names", "rles", "amodal_bboxes")
_SEQUENCE_LISTS = ("file_names", "rles", "amodal_bboxes")


def read_tao_amodal(
    path: str | Path, frames: str, collected: BoxImport, masks: BurstMasks | None = None
) -> tuple[str, Iterator[BoxVideo]]:
    """Read a file of any layout.

    Args:
        path: JSON file.
        frames: folder of the frames, relative to the folder of the JSON that will be written.
        collected: receives the categories, and in its report what is left out.
        masks: modal masks for the first two layouts.

    Returns:
        tuple: the layout, "annotations", "evaluation" or "sequences", and the videos.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is of none of the layouts; while iterating, naming file, video,
            annotation and key of what cannot be read.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"read_tao_amodal: expected a JSON file, got no such file {file}")
    data = read_json(file, "read_tao_amodal")
    if isinstance(data, list):
        _check_sequences(data, file)
        for key in sorted({entry["category_id"] for entry in data}):
            collected.categories[key] = {"id": key, "name": f"category {key}"}
        return "sequences", _read_sequences(data, file, frames, collected)
    for key in _LISTS:
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise AnnotationError(
                f"read_tao_amodal: expected an object with the lists {', '.join(_LISTS)} (TAO) or "
                "a list of sequences (Diffusion-VAS)",
                file=file,
                key=key,
            )
        _check_list(data[key], key, file)
    formal = any("amodal_bbox" in record for record in data["annotations"])
    if not formal and not any("visibility" in record for record in data["annotations"]):
        raise AnnotationError(
            "read_tao_amodal: expected annotations with amodal_bbox or with visibility, got "
            "neither; the files of TAO itself have modal boxes only",
            file=file,
            key="annotations",
        )
    parse_categories(data, "read_tao_amodal", file)
    for entry in data["categories"]:
        kept = {key: entry[key] for key in ("id", "name", "frequency", "synset") if key in entry}
        collected.categories[entry["id"]] = kept
    layout = "annotations" if formal else "evaluation"
    return layout, _TaoFile(file, data, frames, collected, masks, formal).videos()


class _TaoFile:
    """One file in the layout of TAO."""

    def __init__(
        self,
        file: Path,
        data: dict[str, Any],
        frames: str,
        collected: BoxImport,
        masks: BurstMasks | None,
        formal: bool,
    ) -> None:
        self.file = file
        self.data = data
        self.frames = frames
        self.report = collected.report
        self.masks = masks
        self.formal = formal

    def videos(self) -> Iterator[BoxVideo]:
        """Yield the videos in the order of the file, frames by ``frame_index``."""
        images: dict[int, list[dict[str, Any]]] = {entry["id"]: [] for entry in self.data["videos"]}
        video_of: dict[int, int] = {}
        for image in self.data["images"]:
            if image.get("video_id") not in images:
                raise AnnotationError(
                    f"read_tao_amodal: expected a listed video_id, got {image.get('video_id')!r}",
                    file=self.file,
                    image_id=image.get("id"),
                    key="video_id",
                )
            images[image["video_id"]].append(image)
            video_of[image["id"]] = image["video_id"]
        records: dict[int, list[dict[str, Any]]] = {key: [] for key in images}
        for record in self.data["annotations"]:
            if record.get("image_id") not in video_of:
                raise AnnotationError(
                    f"read_tao_amodal: expected a listed image_id, got {record.get('image_id')!r}",
                    file=self.file,
                    annotation_id=record.get("id"),
                    key="image_id",
                )
            records[video_of[record["image_id"]]].append(record)
        for entry in self.data["videos"]:
            frames = sorted(images[entry["id"]], key=lambda image: image["frame_index"])
            if frames:
                yield self._video(entry, frames, records[entry["id"]])
            else:
                self.report["videos left out, without annotated frames"] += 1

    def _video(
        self, entry: dict[str, Any], images: list[dict[str, Any]], records: list[dict[str, Any]]
    ) -> BoxVideo:
        size = images[0]["height"], images[0]["width"]
        video = BoxVideo(
            entry["id"],
            *size,
            [(Path(self.frames) / image["file_name"]).as_posix() for image in images],
            [image["id"] for image in images],
            self._federated(entry, images, "neg_category_ids"),
            self._federated(entry, images, "not_exhaustive_category_ids"),
        )
        index = {image["id"]: frame for frame, image in enumerate(images)}
        masks = self._masks(Path(images[0]["file_name"]).parent.as_posix(), size)
        first = min((record["track_id"] for record in records), default=0)
        for record in records:
            frame = index[record["image_id"]]
            found = self._box(record)
            if found is None:
                self.report["annotations left out, without an amodal box"] += 1
                continue
            number = record["track_id"] - first + 1
            name = Path(images[frame]["file_name"]).name
            found.mask = masks.get(name, {}).get(number)
            category, frames = video.tracks.setdefault(
                record["track_id"], (record["category_id"], {})
            )
            if category != record["category_id"] or frame in frames:
                raise AnnotationError(
                    f"read_tao_amodal: expected one category and one box per frame for track "
                    f"{record['track_id']}, got another",
                    file=self.file,
                    video_id=entry["id"],
                    annotation_id=record.get("id"),
                    key="track_id",
                )
            frames[frame] = found
        return video

    def _box(self, record: dict[str, Any]) -> ObjectBox | None:
        """Return the boxes of an annotation, None if there is no amodal one."""
        place = {"file": self.file, "annotation_id": record.get("id")}
        key = "amodal_bbox" if self.formal else "bbox"
        if record.get(key) is None:
            return None
        visible = None
        if self.formal and record.get("bbox") is not None:
            visible = read_box(record["bbox"], "bbox", **place)
        return ObjectBox(
            read_box(record[key], key, **place),
            visible,
            visibility=record.get("visibility"),
            out_of_frame=record.get("out_of_frame"),
        )

    def _federated(
        self, entry: dict[str, Any], images: list[dict[str, Any]], key: str
    ) -> list[int]:
        """Return a list of categories from the video, or from its images if they agree."""
        if key in entry:
            return list(entry[key])
        lists = [sorted(image.get(key, ())) for image in images]
        if any(one != lists[0] for one in lists):
            raise AnnotationError(
                f"read_tao_amodal: expected the same {key} in all images of a video without, got "
                f"{lists!r:.80}",
                file=self.file,
                video_id=entry["id"],
                key=key,
            )
        return lists[0]

    def _masks(self, name: str, size: tuple[int, int]) -> dict[str, dict[int, RLE]]:
        if self.masks is None:
            return {}
        found = self.masks.of_video(name, size)
        self.report["videos without masks in BURST"] += found is None
        return found or {}


def _check_list(entries: list[Any], kind: str, file: Path) -> None:
    """Check the entries of one list of a file in the layout of TAO."""
    for index, entry in enumerate(entries):
        for key in _LISTS[kind]:
            if not isinstance(entry, dict) or key not in entry:
                raise AnnotationError(
                    f"read_tao_amodal: expected an entry with {key}, got none",
                    file=file,
                    key=f"{kind}[{index}].{key}",
                )
    check_entries(entries, _LISTS[kind], "read_tao_amodal", file, kind)
    ids = [entry["id"] for entry in entries if kind in ("videos", "images")]
    twice = next((number for number, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise AnnotationError(
            f"read_tao_amodal: expected unique ids, got {twice} twice", file=file, key=kind
        )
    for index, entry in enumerate(entries):
        problem = _entry_problem(entry, kind)
        if problem is not None:
            raise AnnotationError(
                f"read_tao_amodal: {problem[1]}", file=file, key=f"{kind}[{index}].{problem[0]}"
            )


def _entry_problem(entry: dict[str, Any], kind: str) -> Problem | None:
    problem = size_problem(entry) if kind == "images" else None
    if problem is not None:
        return problem
    for key in ("neg_category_ids", "not_exhaustive_category_ids"):
        found = entry.get(key, [])
        if not isinstance(found, list) or not all(map(is_id, found)):
            return key, f"expected a list of category ids, got {found!r:.80}"
    seen = entry.get("visibility")
    if kind == "annotations" and seen is not None and not is_number(seen):
        return "visibility", f"expected a number, got {seen!r:.80}"
    return None


def _check_sequences(data: list[Any], file: Path) -> None:
    for index, entry in enumerate(data):
        for key in (*_SEQUENCE_KEYS, "height", "width"):
            if not isinstance(entry, dict) or key not in entry:
                raise AnnotationError(
                    f"read_tao_amodal: expected a sequence with {key}, got none",
                    file=file,
                    key=f"[{index}].{key}",
                )
        for key in _SEQUENCE_LISTS:
            if not isinstance(entry[key], list) or len(entry[key]) != SEQUENCE_LENGTH:
                got = len(entry[key]) if isinstance(entry[key], list) else entry[key]
                raise AnnotationError(
                    f"read_tao_amodal: expected a list of {SEQUENCE_LENGTH} entries, got "
                    f"{got!r:.80}",
                    file=file,
                    key=f"[{index}].{key}",
                )
        problem = size_problem(entry)
        if problem is None and not all(map(is_text, entry["file_names"])):
            problem = "file_names", f"expected paths, got {entry['file_names']!r:.80}"
        if problem is not None:
            raise AnnotationError(
                f"read_tao_amodal: {problem[1]}", file=file, key=f"[{index}].{problem[0]}"
            )
    ids = {"track_id": int, "category_id": int, "video_id": int}
    check_entries(data, ids, "read_tao_amodal", file)


def _read_sequences(
    data: list[dict[str, Any]], file: Path, frames: str, collected: BoxImport
) -> Iterator[BoxVideo]:
    """Yield one video per run of frames; its id counts from 1, since videos occur repeatedly."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, entry in enumerate(data):
        groups.setdefault(tuple(entry["file_names"]), []).append(index)
    collected.report["sequences (one object in one video)"] += len(data)
    collected.report["videos of the source"] += len({entry["video_id"] for entry in data})
    for number, (names, indices) in enumerate(groups.items(), start=1):
        first = data[indices[0]]
        size = first["height"], first["width"]
        video = BoxVideo(number, *size, [(Path(frames) / name).as_posix() for name in names])
        for index in indices:
            entry = data[index]
            if entry["track_id"] in video.tracks:
                raise AnnotationError(
                    f"read_tao_amodal: expected track {entry['track_id']} once in the frames from "
                    f"{names[0]}, got it twice",
                    file=file,
                    key=f"[{index}].track_id",
                )
            boxes: dict[int, ObjectBox] = {}
            pairs = zip(entry["amodal_bboxes"], entry["rles"], strict=True)
            for frame, (box, counts) in enumerate(pairs):
                place = f"[{index}].amodal_bboxes[{frame}]"
                mask = _mask(counts, size, file, f"[{index}].rles[{frame}]")
                boxes[frame] = ObjectBox(read_box(box, place, file=file), mask=mask)
            video.tracks[entry["track_id"]] = (entry["category_id"], boxes)
        yield video


def _mask(counts: Any, size: tuple[int, int], file: Path, key: str) -> RLE:
    try:
        rle = to_rle({"size": [*size], "counts": counts}, *size)
        validate_rle(rle, size)
    except ValueError as error:
        raise AnnotationError(f"read_tao_amodal: {error}", file=file, key=key) from error
    return rle
