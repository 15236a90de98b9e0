"""Names and ids of the categories that a model was trained on."""

from __future__ import annotations

from detectron2.data import DatasetCatalog, MetadataCatalog

AQUARIUM_CATEGORIES = {
    1: "clownfish",
    2: "angelfish",
    3: "surgeonfish",
    4: "pike",
    5: "pufferfish",
    6: "betta",
}
"""Category id -> species of the rendered aquarium."""


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
