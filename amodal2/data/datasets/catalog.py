"""Entering datasets into Detectron2's catalogues, beside those of other projects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.data.datasets.categories import store_categories


def registered_by(name: str) -> str | None:
    """Return the module that has registered a dataset, None if nobody has.

    Args:
        name: dataset name.
    """
    return str(DatasetCatalog[name].__module__) if name in DatasetCatalog else None


def register_dataset(
    name: str,
    load: Callable[[], list[dict[str, Any]]],
    json_file: str | Path,
    *,
    categories: dict[int, str] | None,
    **metadata: str,
) -> None:
    """Register a dataset.

    Args:
        name: dataset name.
        load: returns the dicts.
        json_file: annotation file.
        categories: category id -> name where they are known beforehand.
        metadata: further entries.

    Raises:
        ValueError: if the name is taken; nothing is changed then.
    """
    owner = registered_by(name)
    if owner is not None:
        raise ValueError(
            f"register_dataset: expected a new dataset name, got {name!r}, which {owner} has "
            "registered; take another name, or call DatasetCatalog.remove and "
            "MetadataCatalog.remove with this one"
        )
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(json_file=str(json_file), **metadata)
    if categories is not None:
        store_categories(name, categories, json_file)
