"""COCOA in its two layouts, told apart by their keys.

The original (``COCO_amodal_{train,val}2014.json``) has one annotation per image and annotator with
``regions``: one flat polygon each, ``visible_mask`` only where something hides the region, an
``order`` and, per annotation, a ``depth_constraint`` such as "1-2,1-5" (region 1 is in front of 2
and of 5, counted from 1). The variants of Follmann et al. (``*_detectron_no_stuff.json`` and
``*_with_classes.json``, COCOA-cls) have one record per object, as COCO does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal2.data.importers.flat_coco import (
    FlatLayout,
    load_coco,
    parse_categories,
    read_flat_coco,
    read_mask,
)
from amodal2.data.importers.image_import import SourceImage, SourceObject
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import check_entries

CLASS_AGNOSTIC = {1: "object"}
"""The categories of the original layout, whose names are free text."""

_LAYOUT = FlatLayout("segmentation", "visible_mask", visible_optional=True)


def read_cocoa(
    path: str | Path, report: Counter[str], keep_stuff: bool = False
) -> tuple[dict[int, str], Iterator[SourceImage]]:
    """Read a file of either layout.

    Args:
        path: JSON file.
        report: receives the number of regions and annotations left out.
        keep_stuff: keep regions marked ``isStuff`` of the original layout.

    Returns:
        tuple: category id -> name, and the images that are annotated. Of several annotators of an
        image the first counts.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if the file is of neither layout; while iterating, naming what cannot be
            read.
    """
    data = load_coco(path, "read_cocoa")
    first = data["annotations"][0] if data["annotations"] else {}
    if "regions" in first:
        return CLASS_AGNOSTIC, _read_regions(Path(path), data, report, keep_stuff)
    if "segmentation" in first and data.get("categories"):
        names = parse_categories(data, "read_cocoa", Path(path))
        return names, read_flat_coco(path, data, _LAYOUT, "read_cocoa")
    raise AnnotationError(
        "read_cocoa: expected annotations with regions (the original layout) or with segmentation "
        f"and a list of categories (COCOA-cls), got the keys {sorted(first)}",
        file=path,
    )


def _read_regions(
    path: Path, data: dict[str, Any], report: Counter[str], keep_stuff: bool
) -> Iterator[SourceImage]:
    check_entries(data["annotations"], {"regions": list}, "read_cocoa", path, "annotations")
    images = {image["id"]: image for image in data["images"]}
    done: set[int] = set()
    for record in data["annotations"]:
        entry = images.get(record["image_id"])
        if entry is None:
            raise AnnotationError(
                f"read_cocoa: expected a listed image_id, got {record['image_id']!r}",
                file=path,
                annotation_id=record.get("id"),
                key="image_id",
            )
        if entry["id"] in done:
            report["annotations of further annotators left out"] += 1
            continue
        done.add(entry["id"])
        image = SourceImage(entry["id"], entry["file_name"], entry["height"], entry["width"])
        positions: dict[int, int] = {}
        check_entries(record["regions"], {}, "read_cocoa", path, f"image {entry['id']}: regions")
        for number, region in enumerate(record["regions"], start=1):
            if region.get("isStuff") and not keep_stuff:
                report["stuff regions left out"] += 1
                continue
            positions[number] = len(image.objects)
            image.objects.append(_read_region(region, number, image, record, path))
        image.pairs = [
            (positions[front], positions[back])
            for front, back in _constraints(record, path)
            if front in positions and back in positions
        ]
        yield image


def _read_region(
    region: dict[str, Any], number: int, image: SourceImage, record: dict[str, Any], path: Path
) -> SourceObject:
    size = image.height, image.width
    place = {"file": path, "image_id": image.source_id, "annotation_id": record.get("id")}
    key = f"regions[{number - 1}]"
    outline = {"key": f"{key}.segmentation", **place}
    amodal = read_mask([region.get("segmentation") or []], size, "read_cocoa", outline)
    visible = amodal
    if region.get("visible_mask") is not None:
        seen = {"key": f"{key}.visible_mask", **place}
        visible = read_mask(region["visible_mask"], size, "read_cocoa", seen)
    source = {"id": record.get("id"), "region": number, "name": region.get("name")}
    return SourceObject(1, amodal, visible, source)


def _constraints(record: dict[str, Any], path: Path) -> list[tuple[int, int]]:
    text = record.get("depth_constraint") or ""
    pairs = []
    for part in filter(None, str(text).split(",")):
        match = re.fullmatch(r"\s*([0-9]{1,9})-([0-9]{1,9})\s*", part)
        if match is None:
            raise AnnotationError(
                f'read_cocoa: expected pairs such as "1-2,1-5", got {text!r:.80}',
                file=path,
                annotation_id=record.get("id"),
                key="depth_constraint",
            )
        pairs.append((int(match[1]), int(match[2])))
    return pairs
