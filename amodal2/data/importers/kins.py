"""KINS, the releases of 2019 and 2020, told apart by their keys.

2019 (``instances_{train,val}.json``) has amodal polygons in ``segmentation`` and visible RLEs in
``inmodal_seg``; 2020 (``update_{train,test}_2020.json``) has polygons in ``a_segm`` and ``i_segm``
and a depth order: ``ico_id``, 0 for an object that overlaps nothing, else from 1 on, nearer first,
inside the cluster ``oco_id``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from amodal2.data.importers.flat_coco import FlatLayout, load_coco, read_flat_coco
from amodal2.data.importers.image_import import SourceImage
from amodal2.utils.errors import AnnotationError

CATEGORIES = {
    "2019": {
        1: "cyclist",
        2: "pedestrian",
        4: "car",
        5: "tram",
        6: "truck",
        7: "van",
        8: "misc",
    },
}
CATEGORIES["2020"] = dict(sorted({**CATEGORIES["2019"], 3: "rider"}.items()))
"""Category id -> name by release; "rider" of 2020 has no objects."""

_LAYOUTS = {
    "2019": FlatLayout("segmentation", "inmodal_seg"),
    "2020": FlatLayout(
        "a_segm", "i_segm", source=("oco_id", "ico_id"), cluster="oco_id", rank="ico_id"
    ),
}


def read_kins(path: str | Path) -> tuple[str, Iterator[SourceImage]]:
    """Read a file of either release.

    Args:
        path: JSON file.

    Returns:
        tuple: the release, "2019" or "2020", and the images.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if the file is of neither release; while iterating, naming what cannot be
            read.
    """
    data = load_coco(path, "read_kins")
    first = data["annotations"][0] if data["annotations"] else {}
    for release, layout in _LAYOUTS.items():
        if layout.amodal in first and layout.visible in first:
            return release, read_flat_coco(path, data, layout, "read_kins")
    raise AnnotationError(
        "read_kins: expected annotations with segmentation and inmodal_seg (2019) or a_segm and "
        f"i_segm (2020), got the keys {sorted(first)}",
        file=path,
    )
