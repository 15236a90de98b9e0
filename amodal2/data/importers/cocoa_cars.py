"""The cars of COCOA: the query set of mask transfer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from amodal2.data.importers.cocoa import CLASS_AGNOSTIC, read_cocoa
from amodal2.data.importers.image_import import SourceImage, SourceObject
from amodal2.utils.errors import AnnotationError

CATEGORIES = {1: "car"}


def read_cocoa_cars(
    path: str | Path, report: Counter[str]
) -> tuple[dict[int, str], Iterator[SourceImage]]:
    """Read the images with cars of a file of COCOA-cls or of the original COCOA.

    In COCOA-cls cars are the objects of the category "car", in the original layout the regions
    whose name is "car".

    Args:
        path: JSON file.
        report: receives the number of other objects and of images without cars.

    Returns:
        tuple: category id -> name, and the images.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if the file is of neither layout or has no category "car"; while
            iterating, naming what cannot be read.
    """
    names, images = read_cocoa(path, report)
    wanted = {key for key, name in names.items() if name.lower() == "car"}
    if names == CLASS_AGNOSTIC:
        return CATEGORIES, _keep(images, None, report)
    if not wanted:
        raise AnnotationError(
            f"read_cocoa_cars: expected a category car, got {list(names.values())!r:.80}",
            file=path,
            key="categories",
        )
    return CATEGORIES, _keep(images, wanted, report)


def _keep(
    images: Iterator[SourceImage], wanted: set[int] | None, report: Counter[str]
) -> Iterator[SourceImage]:
    for image in images:
        kept: dict[int, int] = {}
        cars: list[SourceObject] = []
        for index, found in enumerate(image.objects):
            if _is_car(found, wanted):
                kept[index] = len(cars)
                found.category = 1
                cars.append(found)
        report["objects left out, no cars"] += len(image.objects) - len(cars)
        if not cars:
            report["images left out, without cars"] += 1
            continue
        image.objects = cars
        image.pairs = [
            (kept[front], kept[back])
            for front, back in image.pairs
            if front in kept and back in kept
        ]
        yield image


def _is_car(found: SourceObject, wanted: set[int] | None) -> bool:
    if wanted is not None:
        return found.category in wanted
    return str(found.source.get("name")).strip().lower() == "car"
