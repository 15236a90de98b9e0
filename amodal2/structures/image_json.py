"""Ground truth of image datasets: COCO-style JSON with amodal keys, read and checked.

A file holds ``images`` (id, file_name, height, width), ``categories`` (id, name) and
``annotations``: one record per object with id, image_id, category_id, iscrowd and the masks
``amodal_segm`` (the whole object) and, where known, ``visible_segm`` (null or empty for an object
that is fully hidden); optional ``occluder_segm``, ``background_objs_segm``, ``amodal_bbox``,
``visible_bbox`` (x, y, w, h), ``amodal_area``, ``visible_area``, ``occlusion_rate``, ``track_id``,
``isStuff``. Other names for the same content are in :data:`ALIASES`. Masks may be compressed or
uncompressed RLEs or polygons; here they become compressed RLEs, and empty masks become None. Boxes,
areas and occlusion rates that the file leaves out are measured.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from amodal2.structures.annotation_file import EntryChecks, parse_annotations
from amodal2.structures.mask_checks import Problem, size_problem
from amodal2.structures.rle import plain_counts, rle_areas, rle_box, to_rle
from amodal2.structures.rle_runs import (
    contained,
    describe_invalid,
    measure_counts,
)
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import BOX_FORM, LARGEST_AREA, is_box, is_number, is_text
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

AMODAL_SEGM = "amodal_segm"
"""Key of the amodal mask of an object record."""
VISIBLE_SEGM = "visible_segm"
"""Key of the visible mask of an object record."""
OCCLUDER_SEGM = "occluder_segm"
"""Key of the union of the nearer objects over an object."""
BACKGROUND_SEGM = "background_objs_segm"
"""Key of the union of the farther objects that an object covers."""
MASK_KEYS = (AMODAL_SEGM, VISIBLE_SEGM, OCCLUDER_SEGM, BACKGROUND_SEGM)

ALIASES = {
    AMODAL_SEGM: ("a_segm", "segmentation"),
    VISIBLE_SEGM: ("inmodal_seg", "i_segm", "visible_mask"),
    "amodal_bbox": ("a_bbox", "bbox"),
    "visible_bbox": ("inmodal_bbox", "i_bbox"),
    "amodal_area": ("a_area",),
    "visible_area": ("i_area",),
    "occlusion_rate": ("occlude_rate",),
}
"""Key -> names of other data sets (KINS 2019 and 2020, COCOA, VRSP, UOAIS, COCO) for it.

``area`` is no alias: converted files hold amodal, visible or box areas under it.
"""


@dataclass
class ImageDataset:
    """Checked content of an annotation file.

    Args:
        file: path of the JSON file.
        images: image entries.
        categories: category entries in ascending order of their ids.
        annotations: object records in normal form; ``iscrowd``, and for each of the two kinds of
            masks that they have ``<kind>_bbox`` (None if empty) and ``<kind>_area`` are always
            present, with both kinds ``occlusion_rate`` too.
        skipped: number of records left out because they were invalid.
        warnings: text of each kind of doubtful content -> number of cases.
    """

    file: str
    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    skipped: int = 0
    warnings: Counter[str] = field(default_factory=Counter)

    def has(self, key: str) -> bool:
        """Tell whether all objects carry a key (true of a file without objects).

        Args:
            key: key of the records, e.g. ``"amodal_segm"``.
        """
        return all(key in record for record in self.annotations)


def read_image_json(
    file: str | Path, *, strict: bool = False, skip_invalid: bool = False
) -> ImageDataset:
    """Read and check an annotation file.

    Doubtful content (visible pixels outside the amodal mask, occlusion rates outside [0, 1]) is
    counted and logged; it does not change the records.

    Args:
        file: path of the JSON file.
        strict: stop at doubtful content as well.
        skip_invalid: leave invalid images and objects out, count and log them, instead of stopping.

    Returns:
        ImageDataset: records in normal form, in the order of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: naming file, image, annotation and key of the first invalid entry.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"read_image_json: expected an annotation file, got no such file {path}; prepare the "
            "dataset or set DETECTRON2_DATASETS to its root"
        )
    dataset = _Reader(str(path), skip_invalid, "read_image_json", "image").read(
        parse_annotations(path, ("images", "categories", "annotations"), "read_image_json")
    )
    for text, count in dataset.warnings.items():
        if strict:
            raise AnnotationError(
                f"read_image_json: expected nothing doubtful, got {text}: {count} cases in "
                "strict mode",
                file=path,
            )
        logger.warning("%s: %s: %d cases", path, text, count)
    if dataset.skipped:
        logger.warning("%s: %d invalid records left out", path, dataset.skipped)
    return dataset


def normalise_image_masks(
    records: list[dict[str, Any]], images: dict[int, dict[str, Any]]
) -> dict[int, Problem]:
    """Turn all masks of object records into valid compressed RLEs, in place.

    Empty masks become None. No damaged RLE reaches the C decoder, which reads past its end.

    Args:
        records: objects or predictions with a valid ``image_id`` and masks under some of
            :data:`MASK_KEYS`.
        images: image id -> entry with ``height`` and ``width``.

    Returns:
        dict[int, tuple]: position of each record with a broken mask -> its first problem.
    """
    problems: dict[int, Problem] = {}
    size_of = {number: [image["height"], image["width"]] for number, image in images.items()}
    used = set(chain.from_iterable(records))
    for key in (key for key in MASK_KEYS if key in used):
        positions = [i for i, record in enumerate(records) if record.get(key) is not None]
        sizes = [size_of[records[i]["image_id"]] for i in positions]
        counts = plain_counts([records[i][key] for i in positions], sizes)
        if counts is None:
            positions, sizes, counts = _compress(records, key, positions, sizes, problems)
        pixels = [height * width for height, width in sizes]
        areas = measure_counts(counts, pixels)
        for place in np.flatnonzero(areas <= 0).tolist():
            if areas[place] == 0:
                records[positions[place]][key] = None
            else:
                text = describe_invalid(counts[place], pixels[place])
                problems.setdefault(positions[place], (key, text))
    return problems


def _compress(
    records: list[dict[str, Any]],
    key: str,
    positions: list[int],
    sizes: list[list[int]],
    problems: dict[int, Problem],
) -> tuple[list[int], list[list[int]], list[str]]:
    """Bring masks of any form into compressed form, in place; return those that have one.

    Returns:
        tuple: their positions, sizes and counts.
    """
    valid = []
    for place, (i, (height, width)) in enumerate(zip(positions, sizes, strict=True)):
        try:
            records[i][key] = to_rle(records[i][key], height, width)
        except ValueError as error:
            problems.setdefault(i, (key, str(error)))
        else:
            valid.append(place)
    positions = [positions[place] for place in valid]
    return (
        positions,
        [sizes[place] for place in valid],
        [records[i][key]["counts"] for i in positions],
    )


class _Reader(EntryChecks):
    """Reads the entries of one file in their order."""

    def read(self, data: dict[str, Any]) -> ImageDataset:
        """Check everything, categories and images before the objects that refer to them."""
        categories = self.keep_categories(data["categories"])
        images = self.keep(data["images"], _image_problem, "image")
        by_id = {image["id"]: image for image in images}
        known = {category["id"] for category in categories}

        def object_problem(record: dict[str, Any]) -> Problem | None:
            return _object_problem(record, by_id, known)

        objects = self.keep(data["annotations"], object_problem, "annotation")
        broken = normalise_image_masks(objects, by_id)
        for position, record in enumerate(objects):
            if position not in broken and record.get(AMODAL_SEGM, True) is None:
                broken[position] = (AMODAL_SEGM, "expected a mask with pixels, got an empty one")
        for position, problem in sorted(broken.items()):
            self.reject("annotation", objects[position], problem)
        objects = [record for position, record in enumerate(objects) if position not in broken]
        _fill_in(objects)
        warnings = _count_doubts(objects, by_id)
        if any(record["id"] < 1 for record in objects):
            warnings["annotation ids below 1 (all ids were shifted to start at 1)"] = 1
            shift = 1 - min(record["id"] for record in objects)
            for record in objects:
                record["id"] += shift
        categories.sort(key=lambda category: category["id"])
        return ImageDataset(self.file, images, categories, objects, self.skipped, warnings)


def _image_problem(image: dict[str, Any]) -> Problem | None:
    if not is_text(image.get("file_name")):
        return "file_name", f"expected the path of the image, got {image.get('file_name')!r:.80}"
    return size_problem(image)


def _object_problem(
    record: dict[str, Any], images: dict[int, dict[str, Any]], categories: set[int]
) -> Problem | None:
    """Bring an object's keys into normal form and check all but its masks."""
    if type(record.get("image_id")) is not int or record["image_id"] not in images:
        return "image_id", f"expected the id of an image entry, got {record.get('image_id')!r}"
    if type(record.get("category_id")) is not int or record["category_id"] not in categories:
        got = record.get("category_id")
        return "category_id", f"expected one of the category ids {sorted(categories)}, got {got!r}"
    for key, others in ALIASES.items():
        names = [name for name in (key, *others) if name in record]
        if names and key not in record:
            record[key] = record[names[0]]
    if AMODAL_SEGM not in record and VISIBLE_SEGM not in record:
        return AMODAL_SEGM, f"expected '{AMODAL_SEGM}' or '{VISIBLE_SEGM}', got neither"
    for key in ("iscrowd", "isStuff"):
        if record.get(key, 0) not in (0, 1):
            return key, f"expected 0 or 1, got {record[key]!r:.80}"
    record.setdefault("iscrowd", 0)
    record["iscrowd"] = int(record["iscrowd"])
    for key in ("amodal_bbox", "visible_bbox"):
        box = record.get(key)
        if box is not None and not is_box(box):
            return key, f"expected {BOX_FORM}, got {box!r:.80}"
    for key in ("amodal_area", "visible_area", "occlusion_rate"):
        value = record.get(key)
        if value is not None and not is_number(value):
            return key, f"expected a finite number, got {value!r:.80}"
        if value is not None and key != "occlusion_rate" and not 0 <= value <= LARGEST_AREA:
            return key, f"expected an area of 0 to {LARGEST_AREA:g} pixels, got {value!r:.80}"
    return None


def _fill_in(objects: list[dict[str, Any]]) -> None:
    """Measure the boxes, areas and occlusion rates that the file left out."""
    for key, name in ((AMODAL_SEGM, "amodal"), (VISIBLE_SEGM, "visible")):
        chosen = [record for record in objects if key in record]
        areas = rle_areas([record[key] for record in chosen if record[key]]).tolist()[::-1]
        for record in chosen:
            area = areas.pop() if record[key] else 0
            if record.get(f"{name}_area") is None:
                record[f"{name}_area"] = area
            if record.get(f"{name}_bbox") is None:
                record[f"{name}_bbox"] = list(rle_box(record[key])) if area else None
    for record in objects:
        both = AMODAL_SEGM in record and VISIBLE_SEGM in record
        if both and record.get("occlusion_rate") is None:
            ratio = record["visible_area"] / record["amodal_area"] if record["amodal_area"] else 0
            record["occlusion_rate"] = float(np.clip(1 - ratio, 0, 1))


def _count_doubts(objects: list[dict[str, Any]], images: dict[int, dict[str, Any]]) -> Counter[str]:
    """Count content that is legal JSON and yet contradicts the meaning of the keys."""
    doubts: Counter[str] = Counter()
    pairs = [
        (record[VISIBLE_SEGM]["counts"], record[AMODAL_SEGM]["counts"])
        for record in objects
        if record.get(VISIBLE_SEGM) and record.get(AMODAL_SEGM)
    ]
    pixels = max((image["height"] * image["width"] for image in images.values()), default=0)
    inside = contained([visible for visible, _ in pairs], [amodal for _, amodal in pairs], pixels)
    rates = [record.get("occlusion_rate") for record in objects]
    found = {
        "objects with visible pixels outside the amodal mask": int((~inside).sum()),
        "objects with an occlusion_rate outside [0, 1]": sum(
            rate is not None and not 0 <= rate <= 1 for rate in rates
        ),
    }
    for key in (AMODAL_SEGM, VISIBLE_SEGM):
        missing = sum(key not in record for record in objects)
        if 0 < missing < len(objects):
            found[f"objects without {key}, while others have it"] = missing
    doubts.update({text: count for text, count in found.items() if count})
    return doubts
