"""Check predicted objects of images before they are scored.

A record is ``{image_id, category_id, score, amodal_segm, visible_segm, bbox}``; ``bbox`` (x, y, w,
h) is the amodal box; ``visible_bbox`` and ``occluder_segm`` (what lies over the object) may be
given as well. Every record has the same kinds of masks; null stands for an empty one. Wrong records
stop with their place, what is legal and yet looks wrong becomes a note. Masks reach the C code only
after their runs were checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from amodal2.structures.image_json import (
    AMODAL_SEGM,
    OCCLUDER_SEGM,
    VISIBLE_SEGM,
    ImageDataset,
    normalise_image_masks,
)
from amodal2.structures.mask_checks import Problem
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import BOX_FORM, is_box, is_number, read_json

KINDS = {"amodal": AMODAL_SEGM, "visible": VISIBLE_SEGM}
"""Kind of mask -> key of the records."""
BOX_KEYS = {"amodal": "bbox", "visible": "visible_bbox"}
"""Kind of box -> key of the predictions."""

Record = dict[str, Any]

_SUMMARY = itemgetter("image_id", "category_id", "score")


def load_record_lists(paths: Iterable[str | Path]) -> list[Any]:
    """Read JSON lists of prediction records and join them; the records are not checked here.

    Args:
        paths: files.

    Raises:
        FileNotFoundError: if a file does not exist.
        AnnotationError: if a file holds no JSON list.
    """
    records: list[Any] = []
    for path in map(Path, paths):
        content = read_json(path, "load_record_lists")
        if not isinstance(content, list):
            raise AnnotationError(
                f"load_record_lists: expected a list of records, got {type(content).__name__}",
                file=path,
            )
        records += content
    return records


def check_image_predictions(
    predictions: Iterable[Any], dataset: ImageDataset, *, file: str | Path | None = None
) -> tuple[list[Record], list[str]]:
    """Check prediction records against the dataset that they belong to.

    Args:
        predictions: records, see the module's docstring. Left unchanged.
        dataset: the ground truth.
        file: where the records come from, for the messages.

    Returns:
        tuple: copies of the records with valid compressed masks (empty masks become None), and
        notes about what is legal and yet looks wrong.

    Raises:
        AnnotationError: naming file, image, number of the record (from 0) and key; if ids are
            unknown, a score is no finite number, a mask is broken or of another size, a box is no
            box, or only some of the records have a kind of mask or box.
    """
    records = list(predictions)
    images = {image["id"]: image for image in dataset.images}
    known_ids: dict[str, set[int]] = {
        "image_id": set(images),
        "category_id": {category["id"] for category in dataset.categories},
    }
    keys = [*KINDS.values(), OCCLUDER_SEGM, *BOX_KEYS.values()]
    plain = set(map(type, records)) <= {dict}
    dicts = records if plain else [record for record in records if isinstance(record, dict)]
    used = set(chain.from_iterable(dicts))
    present = [key for key in keys if key in used]
    if records and not set(present) & set(KINDS.values()):
        raise AnnotationError(
            f"check_image_predictions: expected records with '{AMODAL_SEGM}' or '{VISIBLE_SEGM}', "
            f"got neither in {len(records)} records",
            file=file,
        )
    if not _all_right(records, known_ids, present):
        for position, record in enumerate(records):
            problem = _record_problem(record, known_ids, present)
            if problem is not None:
                _stop(problem, position, record, file)
    kept = ("image_id", "category_id", "score", *present)
    checked: list[Record] = [{key: record[key] for key in kept} for record in records]
    for position, problem in sorted(normalise_image_masks(checked, images).items()):
        _stop(problem, position, checked[position], file)
    return checked, _notes(checked, dataset)


def _stop(problem: Problem, position: int, record: Any, file: str | Path | None) -> None:
    key, text = problem
    raise AnnotationError(
        f"check_image_predictions: {text} (prediction record {position})",
        file=file,
        image_id=record.get("image_id") if isinstance(record, dict) else None,
        key=key,
    )


def _all_right(records: list[Any], known_ids: Mapping[str, set[int]], present: list[str]) -> bool:
    """Check all records at once, which is fast; False: they must be looked at one by one."""
    if set(map(type, records)) - {dict} or set(present) & set(BOX_KEYS.values()):
        return False
    try:
        columns = {
            key: [record[key] for record in records] for key in ("score", *known_ids, *present)
        }
    except KeyError:
        return False
    for key, known in known_ids.items():
        if set(map(type, columns[key])) - {int} or not known.issuperset(columns[key]):
            return False
    return all(map(is_number, columns["score"]))


def _record_problem(
    record: Any, known_ids: Mapping[str, set[int]], present: list[str]
) -> Problem | None:
    if not isinstance(record, dict):
        return "record", f"expected an object, got {record!r:.80}"
    for key, known in known_ids.items():
        value = record.get(key)
        if type(value) is not int or value not in known:
            first = ", ".join(str(entry) for entry in sorted(known)[:10])
            return key, (
                f"expected one of the {len(known)} integer ids of the ground truth ({first}"
                f"{', ...' if len(known) > 10 else ''}), got {value!r}; map the ids of the model "
                "to those of the dataset"
            )
    if not is_number(record.get("score")):
        return "score", f"expected a finite number, got {record.get('score')!r:.80}"
    for key in present:
        if key not in record:
            return key, (
                f"expected '{key}' in every record, since others have it, got none; give null "
                "where there is nothing"
            )
    for key in BOX_KEYS.values():
        box = record.get(key)
        if box is not None and not is_box(box):
            return key, f"expected {BOX_FORM}, got {box!r:.80}"
    return None


def _notes(records: list[Record], dataset: ImageDataset) -> list[str]:
    """Describe legal content that costs points, one sentence per kind."""
    notes = []
    if not records and dataset.annotations:
        notes.append(f"no predictions for {len(dataset.annotations)} true objects: AP and AR are 0")
    for kind, key in KINDS.items():
        # All records have the same keys.
        masks = [record[key] for record in records] if records and key in records[0] else []
        empty = masks.count(None)
        if empty:
            notes.append(f"{empty} empty {kind} masks among the predictions (false positives)")
    duplicates = len(records) - len(set(map(_SUMMARY, records)))
    if duplicates:  # masks are compared only then
        duplicates = len(records) - len({_content(record) for record in records})
    if duplicates:
        notes.append(f"{duplicates} exact duplicates among the predictions (false positives)")
    predicted = {record["category_id"] for record in records}
    true = {record["category_id"] for record in dataset.annotations}
    if predicted and true and not predicted & true:
        notes.append(
            f"no predicted category ({sorted(predicted)[:10]}) occurs among the true objects "
            f"({sorted(true)[:10]}): AP is 0; are the category ids those of the dataset?"
        )
    missing = {record["image_id"] for record in dataset.annotations}
    missing -= {record["image_id"] for record in records}
    if records and missing:
        notes.append(f"{len(missing)} images with true objects have no predictions")
    return notes


def _content(record: Record) -> tuple[Any, ...]:
    masks = tuple((record.get(key) or {}).get("counts") for key in KINDS.values())
    return (*_SUMMARY(record), *masks)
