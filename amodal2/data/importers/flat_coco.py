"""COCO files with one record per object and two masks: KINS, D2SA, COCOA-cls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal2.data.importers.image_import import SourceImage, SourceObject
from amodal2.data.importers.video_import import intersect
from amodal2.structures.annotation_file import parse_annotations
from amodal2.structures.mask_checks import size_problem
from amodal2.structures.rle import RLE, rle_area, to_rle, validate_rle
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import check_entries, is_id


@dataclass(frozen=True)
class FlatLayout:
    """Where a dataset keeps what.

    Args:
        amodal: key of the amodal mask.
        visible: key of the visible mask.
        visible_optional: objects without it are in the open.
        source: further keys that are kept in the ``source`` of each object.
        cluster: key of the cluster of overlapping objects, with ``rank``, "" if there is none.
        rank: key of the place in the cluster, 0 for objects that overlap nothing.
    """

    amodal: str
    visible: str
    visible_optional: bool = False
    source: tuple[str, ...] = ()
    cluster: str = ""
    rank: str = ""


def load_coco(path: str | Path, reader: str) -> dict[str, Any]:
    """Parse a COCO file and check its outline.

    Args:
        path: JSON file.
        reader: name of the caller, for messages.

    Returns:
        dict: with the lists images and annotations, and categories if there are any.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is no JSON, a list is missing, or an entry lacks what every COCO file
            has.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{reader}: expected a JSON file, got no such file {file}")
    data = parse_annotations(file, ("images", "annotations"), reader)
    check_images(data["images"], reader, file)
    check_entries(data["annotations"], {"image_id": int}, reader, file, "annotations")
    if "categories" in data:
        parse_categories(data, reader, file)
    return data


def check_images(images: list[Any], reader: str, file: Path) -> None:
    """Check the images of a COCO file.

    Args:
        images: the list.
        reader: name of the caller, for messages.
        file: JSON file.

    Raises:
        AnnotationError: if one lacks id, file_name, height or width, or an id occurs twice.
    """
    check_entries(images, {"id": int, "file_name": str}, reader, file, "images")
    seen: set[int] = set()
    for image in images:
        problem = size_problem(image)
        if image["id"] in seen:
            problem = "id", f"expected unique image ids, got {image['id']} twice"
        if problem is not None:
            raise AnnotationError(
                f"{reader}: {problem[1]}", file=file, image_id=image["id"], key=problem[0]
            )
        seen.add(image["id"])


def parse_categories(data: dict[str, Any], reader: str, file: Path) -> dict[int, str]:
    """Return category id -> name of a COCO file.

    Args:
        data: its content.
        reader: name of the caller, for messages.
        file: JSON file.

    Raises:
        AnnotationError: if they are no list of entries with id and name, each once.
    """
    entries = data["categories"]
    if not isinstance(entries, list):
        raise AnnotationError(
            f"{reader}: expected a list of categories, got {entries!r:.80}",
            file=file,
            key="categories",
        )
    check_entries(entries, {"id": int, "name": str}, reader, file, "categories")
    names = {entry["id"]: entry["name"] for entry in entries}
    if len(set(names.values())) != len(entries):
        raise AnnotationError(
            f"{reader}: expected unique category ids and names, got {list(names.items())!r:.80}",
            file=file,
            key="categories",
        )
    return names


def read_mask(value: Any, size: tuple[int, int], reader: str, place: dict[str, Any]) -> RLE:
    """Bring a mask of a source into the compressed form and check it.

    Args:
        value: RLE or polygons; polygons of less than three points or of odd length are left out if
            others remain.
        size: (H, W).
        reader: name of the caller, for messages.
        place: keyword arguments of :class:`AnnotationError`.

    Returns:
        RLE: compressed.

    Raises:
        AnnotationError: if it is no mask of that size.
    """
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = [
            polygon
            for polygon in value
            if not isinstance(polygon, list) or (len(polygon) >= 6 and len(polygon) % 2 == 0)
        ]
    try:
        rle = to_rle(value, *size)
        validate_rle(rle, size)
    except ValueError as error:
        raise AnnotationError(f"{reader}: {error}", **place) from error
    return rle


def read_flat_coco(
    path: str | Path, data: dict[str, Any], layout: FlatLayout, reader: str
) -> Iterator[SourceImage]:
    """Read images and their objects, in the order of the image ids.

    Args:
        path: the file, for messages.
        data: its content.
        layout: where the dataset keeps what.
        reader: name of the caller, for messages.

    Yields:
        SourceImage: every image, those without objects too.

    Raises:
        AnnotationError: naming file, image, annotation and key of what cannot be read.
    """
    check_entries(data["annotations"], {"category_id": int}, reader, path, "annotations")
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in data["images"]}
    for record in data["annotations"]:
        if record.get("image_id") not in by_image:
            raise AnnotationError(
                f"{reader}: expected a listed image_id, got {record.get('image_id')!r}",
                file=path,
                annotation_id=record.get("id"),
                key="image_id",
            )
        by_image[record["image_id"]].append(record)
    for entry in sorted(data["images"], key=lambda image: image["id"]):
        image = SourceImage(entry["id"], entry["file_name"], entry["height"], entry["width"])
        for record in by_image[entry["id"]]:
            place = {"file": path, "image_id": entry["id"], "annotation_id": record.get("id")}
            image.objects.append(_read_object(record, image, layout, reader, place))
        image.pairs = list(_ordered_pairs(image.objects))
        yield image


def _read_object(
    record: dict[str, Any],
    image: SourceImage,
    layout: FlatLayout,
    reader: str,
    place: dict[str, Any],
) -> SourceObject:
    def mask(key: str) -> RLE:
        if record.get(key) is None:
            raise AnnotationError(f"{reader}: expected a mask, got none", key=key, **place)
        return read_mask(record[key], (image.height, image.width), reader, {"key": key, **place})

    amodal = mask(layout.amodal)
    missing = record.get(layout.visible) is None and layout.visible_optional
    order = None
    if layout.cluster and record.get(layout.rank):
        for key in (layout.cluster, layout.rank):
            if not is_id(record.get(key)):
                raise AnnotationError(
                    f"{reader}: expected an integer, got {record.get(key)!r:.80}", key=key, **place
                )
        order = {"cluster": record[layout.cluster], "rank": record[layout.rank] - 1}
    return SourceObject(
        record["category_id"],
        amodal,
        amodal if missing else mask(layout.visible),
        {key: record[key] for key in ("id", *layout.source) if key in record},
        order,
    )


def _ordered_pairs(objects: list[SourceObject]) -> Iterator[tuple[int, int]]:
    """Yield (front, back) of objects of one cluster whose amodal masks overlap."""
    for front, one in enumerate(objects):
        for back, other in enumerate(objects):
            if one.order is None or other.order is None:
                continue
            nearer = one.order["rank"] < other.order["rank"]
            if nearer and one.order["cluster"] == other.order["cluster"] and overlap(one, other):
                yield front, back


def overlap(one: SourceObject, other: SourceObject) -> bool:
    """Tell whether the amodal masks of two objects of one image have a pixel in common.

    Args:
        one: an object.
        other: another one.
    """
    return rle_area(intersect(one.amodal, other.amodal)) > 0
