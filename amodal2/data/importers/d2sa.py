"""D2SA (MVTec): amodal RLEs in ``segmentation``, visible ones in ``visible_mask``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from amodal2.data.importers.flat_coco import FlatLayout, load_coco, parse_categories, read_flat_coco
from amodal2.data.importers.image_import import SourceImage
from amodal2.utils.errors import AnnotationError

_LAYOUT = FlatLayout("segmentation", "visible_mask", source=("occl_depth",))


def read_d2sa(path: str | Path) -> tuple[dict[int, str], Iterator[SourceImage]]:
    """Read a file.

    Args:
        path: JSON file.

    Returns:
        tuple: category id -> name as the file lists them, and the images.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if the file has no categories (the test set has no annotations at all);
            while iterating, naming what cannot be read.
    """
    data = load_coco(path, "read_d2sa")
    if not data.get("categories"):
        raise AnnotationError(
            "read_d2sa: expected a list of categories, got none", file=path, key="categories"
        )
    names = parse_categories(data, "read_d2sa", Path(path))
    return names, read_flat_coco(path, data, _LAYOUT, "read_d2sa")
