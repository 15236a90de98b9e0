"""What a mask completion is judged on: true objects and their predictions, paired by id.

Videos and images take the same form: an image is a scene of one frame. A prediction record is
``{gt_id, amodal_segmentations}`` (one mask or null per frame) for videos and ``{gt_id,
amodal_segm}`` for images; with several samples per object each record also has ``sample`` = 0, 1,
..., K - 1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal2.structures.image_json import (
    AMODAL_SEGM,
    VISIBLE_SEGM,
    ImageDataset,
    normalise_image_masks,
)
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY, normalise_masks
from amodal2.structures.rle import RLE, rle_box
from amodal2.structures.track import MaskTube
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.errors import AnnotationError

Record = dict[str, Any]


@dataclass
class CompletionObject:
    """One true object with its completions; T frames, 1 for images.

    Args:
        id: of the annotation.
        scene: id of the video or image.
        amodal: T masks; frames without one are not judged.
        visible: T masks.
        boxes: T amodal boxes (x, y, w, h) in pixels, as stated by the file or else measured.
        rates: T stated occlusion rates; None where the file has none.
        samples: K predicted lists of T masks.
    """

    id: int
    scene: int
    amodal: MaskTube
    visible: MaskTube
    boxes: list[Any]
    rates: list[float | None]
    samples: list[MaskTube]


def pair_completions(
    dataset: VideoDataset | ImageDataset,
    predictions: Iterable[Any],
    file: str | Path | None = None,
    only: Collection[int] | None = None,
) -> tuple[list[CompletionObject], list[str]]:
    """Check predictions and pair them with the true objects.

    Args:
        dataset: the ground truth, with visible and amodal masks.
        predictions: records, see the module's docstring. Left unchanged.
        file: where they come from, for the messages.
        only: ids of the annotations that predictions are wanted for; None wants all.

    Returns:
        tuple: one object per annotation, all with the same number of samples (missing ones are
        empty), and notes.

    Raises:
        ValueError: if the ground truth lacks a kind of mask.
        AnnotationError: naming file, annotation, number of the record (from 0) and key of a wrong
            record.
    """
    keys = _keys(dataset)
    for key in keys[:2]:
        if not dataset.has(key):
            raise ValueError(
                f"pair_completions: expected ground truth with '{key}' for every object, got "
                f"{dataset.file} without"
            )
    objects = {record["id"]: record for record in dataset.annotations}
    tubes = _check(list(predictions), objects, dataset, file)
    count = 1 + max((sample for _, sample in tubes), default=0)
    notes = []
    wanted = [number for number in objects if only is None or number in only]
    missing = [number for number in wanted if not any((number, k) in tubes for k in range(count))]
    if missing:
        notes.append(
            f"{len(missing)} of {len(wanted)} true objects have no prediction and count as empty "
            f"masks (ids {', '.join(map(str, missing[:5]))}{', ...' if len(missing) > 5 else ''})"
        )
    incomplete = sum((number, k) not in tubes for number in wanted for k in range(count))
    incomplete -= len(missing) * count
    if incomplete:
        notes.append(f"{incomplete} of {count} samples per object are missing: empty masks")
    paired = []
    for record in dataset.annotations:
        one = _true_object(record, keys, dataset)
        empty: MaskTube = [None] * len(one.amodal)
        one.samples = [tubes.get((one.id, k), empty) for k in range(count)]
        paired.append(one)
    stray = sum(
        mask is not None and one.amodal[t] is None
        for one in paired
        for tube in one.samples
        for t, mask in enumerate(tube)
    )
    if stray:
        notes.append(f"{stray} predicted masks in frames without an amodal mask are not judged")
    return paired, notes


def _keys(dataset: VideoDataset | ImageDataset) -> tuple[str, str, str]:
    """Return the keys of amodal masks, visible masks and the scene's id."""
    if isinstance(dataset, VideoDataset):
        return AMODAL_KEY, VISIBLE_KEY, "video_id"
    return AMODAL_SEGM, VISIBLE_SEGM, "image_id"


def _check(
    records: list[Any],
    objects: dict[int, Record],
    dataset: VideoDataset | ImageDataset,
    file: str | Path | None,
) -> dict[tuple[int, int], MaskTube]:
    """Return (annotation id, sample) -> valid masks."""
    key, _, scene_key = _keys(dataset)
    checked: dict[tuple[int, int], Record] = {}
    for position, record in enumerate(records):
        problem = _record_problem(record, objects, key, scene_key)
        if problem is None and record.get("sample", 0) >= len(records):
            got = record["sample"]
            problem = "sample", f"expected samples below the {len(records)} records, got {got}"
        if problem is None:
            number = (record["gt_id"], record.get("sample", 0))
            if number in checked:
                problem = "gt_id", f"expected one record per object and sample, got {number} twice"
        if problem is not None:
            _stop(problem, position, record, file)
        masks = list(record[key]) if isinstance(dataset, VideoDataset) else record[key]
        checked[number] = {scene_key: objects[record["gt_id"]][scene_key], key: masks}
    entries = list(checked.values())
    if isinstance(dataset, VideoDataset):
        broken = normalise_masks(entries, {video["id"]: video for video in dataset.videos})
    else:
        broken = normalise_image_masks(entries, {image["id"]: image for image in dataset.images})
    for position, problem in sorted(broken.items()):
        _stop(problem, position, records[position], file)
    many = isinstance(dataset, VideoDataset)
    return {number: entry[key] if many else [entry[key]] for number, entry in checked.items()}


def _stop(problem: tuple[str, str], position: int, record: Any, file: str | Path | None) -> None:
    key, text = problem
    raise AnnotationError(
        f"pair_completions: {text} (prediction record {position})",
        file=file,
        annotation_id=record.get("gt_id") if isinstance(record, dict) else None,
        key=key,
    )


def _record_problem(
    record: Any, objects: dict[int, Record], key: str, scene_key: str
) -> tuple[str, str] | None:
    if not isinstance(record, dict):
        return "record", f"expected an object, got {record!r:.80}"
    number = record.get("gt_id")
    if type(number) is not int or number not in objects:
        return "gt_id", f"expected one of the {len(objects)} annotation ids, got {number!r}"
    scene = objects[number][scene_key]
    if record.get(scene_key, scene) != scene:
        return scene_key, f"expected {scene} as in the ground truth, got {record[scene_key]!r}"
    sample = record.get("sample", 0)
    if type(sample) is not int or sample < 0:
        return "sample", f"expected the number of the sample from 0, got {sample!r}"
    if key not in record:
        return key, f"expected '{key}', got none; give null where nothing is predicted"
    length = len(objects[number][key]) if key == AMODAL_KEY else None
    if length is not None and (not isinstance(record[key], list) or len(record[key]) != length):
        return key, f"expected a list of {length} entries, one per frame, got {record[key]!r:.60}"
    return None


def _true_object(
    record: Record, keys: tuple[str, str, str], dataset: VideoDataset | ImageDataset
) -> CompletionObject:
    amodal, visible, scene = (record[key] for key in keys)
    if not isinstance(dataset, VideoDataset):
        box, rate = record["amodal_bbox"], record.get("occlusion_rate")
        return CompletionObject(record["id"], scene, [amodal], [visible], [box], [rate], [])
    boxes = record.get("amodal_bboxes") or [_box(mask) for mask in amodal]
    rates = record.get("occlusion_rates") or [None] * len(amodal)
    return CompletionObject(record["id"], scene, amodal, visible, boxes, rates, [])


def _box(mask: RLE | None) -> tuple[int, int, int, int] | None:
    return None if mask is None else rle_box(mask)
