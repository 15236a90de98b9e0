"""Check predicted video tracks before they are scored.

Wrong predictions that are scored silently cost points for no visible reason, or gain them; here
each of them stops with its place, or is reported as a note. Masks reach the C code only after their
runs were checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY, Problem, normalise_masks
from amodal2.structures.packed_tube import PackedTube
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import is_number

MASK_KEYS = {"visible": VISIBLE_KEY, "amodal": AMODAL_KEY}
"""Kind of mask -> key of the records."""

Record = dict[str, Any]


def check_predictions(
    predictions: Iterable[Any], dataset: VideoDataset, *, file: str | Path | None = None
) -> tuple[list[Record], list[str]]:
    """Check prediction records against the dataset that they belong to.

    Args:
        predictions: records with ``video_id, category_id, score`` and ``segmentations`` and/or
            ``amodal_segmentations``: one list, or packed tube, with an RLE or None per frame of the
            video. Left unchanged.
        dataset: the ground truth.
        file: where the records come from, for the messages.

    Returns:
        tuple: copies of the records with valid masks as measured
        :class:`~amodal2.structures.packed_tube.PackedTube` (empty masks become None), and notes
        about what is legal and yet looks wrong.

    Raises:
        AnnotationError: naming file, video, number of the record (from 0) and key; if ids are
            unknown, a score is no finite number, a tube does not have one entry per frame, a mask
            is broken or of another size, or only some of the records have a kind of mask.
    """
    records = list(predictions)
    videos = {video["id"]: video for video in dataset.videos}
    known_ids: dict[str, Collection[int]] = {
        "video_id": videos,
        "category_id": {category["id"] for category in dataset.categories},
    }
    has_kind = {
        key: any(isinstance(record, dict) and record.get(key) is not None for record in records)
        for key in MASK_KEYS.values()
    }
    if records and not any(has_kind.values()):
        raise AnnotationError(
            "check_predictions: expected records with 'segmentations' or 'amodal_segmentations', "
            f"got neither in {len(records)} records",
            file=file,
        )
    checked: list[Record] = []
    for position, record in enumerate(records):
        problem = record_problem(record, known_ids) or _tube_problem(record, has_kind, videos)
        if problem is not None:
            _stop(problem, position, record, file)
        copy = {key: value for key, value in record.items() if key not in has_kind}
        for key in has_kind:
            if has_kind[key]:
                packed = isinstance(record[key], PackedTube)
                copy[key] = record[key] if packed else list(record[key])
        checked.append(copy)
    for position, problem in sorted(normalise_masks(checked, videos, pack=True).items()):
        _stop(problem, position, checked[position], file)
    return checked, _notes(checked, dataset, [key for key, present in has_kind.items() if present])


def _stop(problem: Problem, position: int, record: Any, file: str | Path | None) -> None:
    key, text = problem
    raise AnnotationError(
        f"check_predictions: {text} (prediction record {position})",
        file=file,
        video_id=record.get("video_id") if isinstance(record, dict) else None,
        annotation_id=record.get("id") if isinstance(record, dict) else None,
        key=key,
    )


def record_problem(record: Any, known_ids: Mapping[str, Collection[int]]) -> Problem | None:
    """Return what is wrong with the ids or the scores of a record, None if nothing is.

    Args:
        record: what should be an object.
        known_ids: "video_id" and "category_id" -> ids of the ground truth.
    """
    if not isinstance(record, dict):
        return "record", f"expected an object, got {record!r:.80}"
    for key, known in known_ids.items():
        value = record.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value not in known:
            first = ", ".join(str(entry) for entry in sorted(known)[:10])
            return key, (
                f"expected one of the {len(known)} integer ids of the ground truth ({first}"
                f"{', ...' if len(known) > 10 else ''}), got {value!r}; map the ids of the model "
                "to those of the dataset"
            )
    for key in ("score", "amodal_score"):
        value = record.get(key)
        if value is None and key == "amodal_score":
            continue
        if not is_number(value):
            return key, f"expected a finite number, got {value!r:.80}"
    return None


def _tube_problem(
    record: Record, has_kind: dict[str, bool], videos: dict[int, dict[str, Any]]
) -> Problem | None:
    length = videos[record["video_id"]]["length"]
    for key, present in has_kind.items():
        if not present:
            continue
        tube = record.get(key)
        if tube is None:
            return key, (
                f"expected '{key}' in every record, since others have it, got none; give a list of "
                f"{length} null for a track without such a mask"
            )
        is_tube = isinstance(tube, list | PackedTube)
        if not is_tube or len(tube) != length:
            got = f"{len(tube)} entries" if is_tube else type(tube).__name__
            return key, (
                f"expected a list of {length} entries, one per frame, got {got}; fill frames "
                "without the object with null"
            )
    return None


def _notes(records: list[Record], dataset: VideoDataset, keys: list[str]) -> list[str]:
    """Describe legal content that costs points, one sentence per kind."""
    notes = []
    if not records and dataset.annotations:
        notes.append(f"no predictions for {len(dataset.annotations)} true tracks: AP and AR are 0")
    for kind, key in MASK_KEYS.items():
        empty = sum(not record[key].lengths.any() for record in records) if key in keys else 0
        if empty:
            notes.append(f"{empty} predicted tracks without any {kind} mask (false positives)")
    duplicates = _count_duplicates(records, keys)
    if duplicates:
        notes.append(f"{duplicates} exact duplicates among the predicted tracks (false positives)")
    predicted = {record["category_id"] for record in records}
    present = {track["category_id"] for track in dataset.annotations}
    if predicted and present and not predicted & present:
        notes.append(
            f"no predicted category ({sorted(predicted)[:10]}) occurs among the true tracks "
            f"({sorted(present)[:10]}): AP is 0; are the category ids those of the dataset?"
        )
    missing = {track["video_id"] for track in dataset.annotations}
    missing -= {record["video_id"] for record in records}
    if records and missing:
        notes.append(f"{len(missing)} videos with true tracks have no predictions")
    return notes


def _count_duplicates(records: list[Record], keys: list[str]) -> int:
    """Count the records that repeat another one; masks are compared where the rest is equal."""
    alike: defaultdict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        scores = (record["score"], record.get("amodal_score"))
        alike[(record["video_id"], record["category_id"], *scores)].append(record)
    duplicates = 0
    for group in alike.values():
        if len(group) > 1:
            contents = {
                tuple((record[key].text, record[key].lengths.tobytes()) for key in keys)
                for record in group
            }
            duplicates += len(group) - len(contents)
    return duplicates
