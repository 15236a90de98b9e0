"""Image datasets with visible and amodal masks as Detectron2 datasets.

The file format is documented in :mod:`amodal2.structures.image_json`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from amodal2.data.datasets.catalog import register_dataset
from amodal2.data.datasets.categories import store_categories
from amodal2.structures.image_json import AMODAL_SEGM, ImageDataset, read_image_json

EVALUATOR_TYPE = "coco_amodal"
"""``evaluator_type`` in the metadata of every dataset of this form."""


def load_amodal_coco_json(
    json_file: str | Path,
    root: str | Path,
    name: str | None = None,
    *,
    strict: bool = False,
    skip_invalid: bool = False,
) -> list[dict[str, Any]]:
    """Load an image dataset in Detectron2's standard form, one dict per image.

    Keys of a dict: ``image_id, height, width, file_name`` (absolute path) and ``annotations``:
    dicts with the keys of the file's records in normal form, ``category_id`` contiguous (from 0),
    and for Detectron2's own code ``segmentation`` = amodal mask and ``bbox`` = amodal box (XYWH),
    where there are amodal masks.

    Args:
        json_file: annotation file.
        root: folder that the image paths in the file are relative to.
        name: dataset name; if given, class names and the id map are stored in its metadata.
        strict: stop at doubtful annotations too, see ``read_image_json``.
        skip_invalid: leave invalid records out instead of stopping.

    Returns:
        list[dict]: one per image, in the order of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: naming file, image, annotation and key of an invalid entry; or if the
            dataset was registered with other categories.
    """
    dataset = read_image_json(json_file, strict=strict, skip_invalid=skip_invalid)
    if name is not None:
        store_categories(
            name, {entry["id"]: entry["name"] for entry in dataset.categories}, json_file
        )
    return _to_dicts(dataset, os.path.abspath(root))


def register_amodal_coco_instances(
    name: str,
    json_file: str | Path,
    root: str | Path,
    *,
    categories: dict[int, str] | None = None,
    skip_invalid: bool = False,
) -> None:
    """Register an image dataset; the file is read when the dataset is first asked for.

    Args:
        name: dataset name, ``<name>_<year or version>_amodal_<split>``.
        json_file: annotation file.
        root: folder that the image paths in the file are relative to.
        categories: category id -> name where they are known beforehand, so that the metadata have
            the class names without the file; a file with others is refused.
        skip_invalid: leave invalid records out instead of stopping.

    Raises:
        ValueError: if the name is taken.
    """
    register_dataset(
        name,
        lambda: load_amodal_coco_json(json_file, root, name, skip_invalid=skip_invalid),
        json_file,
        categories=categories,
        image_root=str(root),
        evaluator_type=EVALUATOR_TYPE,
    )


def _to_dicts(dataset: ImageDataset, root: str) -> list[dict[str, Any]]:
    index = {category["id"]: i for i, category in enumerate(dataset.categories)}
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in dataset.images}
    for record in dataset.annotations:
        entry = {**record, "category_id": index[record["category_id"]]}
        if AMODAL_SEGM in record:
            entry["segmentation"] = record[AMODAL_SEGM]
            entry["bbox"] = record["amodal_bbox"]
            entry["bbox_mode"] = BoxMode.XYWH_ABS
        objects[record["image_id"]].append(entry)
    return [
        {
            **{key: value for key, value in image.items() if key != "id"},
            "image_id": image["id"],
            "file_name": os.path.join(root, image["file_name"]),
            "annotations": objects[image["id"]],
        }
        for image in dataset.images
    ]
