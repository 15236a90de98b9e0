"""Names and ids of the categories that a model was trained on."""

from __future__ import annotations

from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.utils.errors import AnnotationError

AQUARIUM_CATEGORIES = {
    1: "clownfish",
    2: "angelfish",
    3: "surgeonfish",
    4: "pike",
    5: "pufferfish",
    6: "betta",
}
"""Category id -> species of the rendered aquarium."""

MARKET_CATEGORIES = {1: "car", 2: "person", 3: "animal", 4: "box", 5: "bottle", 6: "chair"}
"""Category id -> kind of thing of the rendered market."""

PLAYROOM_CATEGORIES = {
    1: "ball",
    2: "egg",
    3: "box",
    4: "wedge",
    5: "pyramid",
    6: "gem",
    7: "cylinder",
    8: "cone",
    9: "capsule",
    10: "dumbbell",
    11: "jack",
    12: "table",
}
"""Category id -> kind of toy of the rendered playroom."""


def dataset_categories(name: str, num_classes: int) -> dict[int, str]:
    """Return the categories of a dataset in the order of the contiguous class indices.

    Built-in datasets know theirs; for others the annotation file is read. Without either, classes
    are numbered from 1.

    Args:
        name: name of a registered dataset, "" for none.
        num_classes: classes of the model.

    Returns:
        dict[int, str]: category id to name, ``num_classes`` entries.

    Raises:
        ValueError: if the dataset has another number of categories.
    """
    if name and not hasattr(MetadataCatalog.get(name), "thing_classes"):
        try:
            DatasetCatalog.get(name)
        except (FileNotFoundError, KeyError):
            name = ""
    if not name:
        return {index + 1: f"class {index + 1}" for index in range(num_classes)}
    metadata = MetadataCatalog.get(name)
    ids = metadata.thing_dataset_id_to_contiguous_id
    categories = {key: metadata.thing_classes[ids[key]] for key in sorted(ids, key=ids.__getitem__)}
    if len(categories) != num_classes:
        raise ValueError(
            f"dataset_categories: expected {num_classes} categories in {name}, as the model "
            f"has, got {len(categories)}; name the model's dataset in DATASETS.TEST"
        )
    return categories


def store_categories(name: str, categories: dict[int, str], file: str | Path) -> None:
    """Put class names and the id map of a dataset into its metadata.

    Args:
        name: dataset name.
        categories: category id -> name; contiguous indices follow the ids.
        file: annotation file, for the message.

    Raises:
        AnnotationError: if the metadata hold other categories.
    """
    found = {
        "thing_classes": [categories[key] for key in sorted(categories)],
        "thing_dataset_id_to_contiguous_id": {key: i for i, key in enumerate(sorted(categories))},
    }
    metadata = MetadataCatalog.get(name)
    for key, value in found.items():
        if metadata.get(key, value) != value:
            raise AnnotationError(
                f"store_categories: expected {key} {metadata.get(key)} as registered for {name}, "
                f"got {value}; prepare the dataset again or register it under another name",
                file=file,
                key="categories",
            )
    metadata.set(**found)
