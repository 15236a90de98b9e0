"""The built-in datasets. Their root is ``$DETECTRON2_DATASETS``, else ``datasets/``."""

from __future__ import annotations

import os

from detectron2.data import MetadataCatalog

from amodal2.data.datasets.video_amodal import register_video_amodal_instances
from amodal2.data.synthetic.aquarium import CATEGORIES as AQUARIUM_CATEGORIES

VIDEO_DATASETS: dict[str, tuple[str, str]] = {
    "aquarium_v1_amodal_train": ("aquarium/train.json", "aquarium"),
    "aquarium_v1_amodal_val": ("aquarium/val.json", "aquarium"),
}
"""Dataset name -> (annotation file, folder of its frame paths), both relative to the root."""

CATEGORIES: dict[str, dict[int, str]] = {
    "aquarium_v1_amodal_train": AQUARIUM_CATEGORIES,
    "aquarium_v1_amodal_val": AQUARIUM_CATEGORIES,
}
"""Dataset name -> category id -> name, so that models name their classes without the files."""


def datasets_root() -> str:
    """Return the folder that all built-in datasets lie in."""
    return os.environ.get("DETECTRON2_DATASETS") or "datasets"


def register_builtin_datasets(root: str) -> None:
    """Register every row of the table.

    Args:
        root: folder that all datasets lie in.
    """
    for name, (json_file, frames) in VIDEO_DATASETS.items():
        register_video_amodal_instances(
            name, os.path.join(root, json_file), os.path.join(root, frames)
        )
        if name in CATEGORIES:
            ids = sorted(CATEGORIES[name])
            MetadataCatalog.get(name).set(
                thing_classes=[CATEGORIES[name][key] for key in ids],
                thing_dataset_id_to_contiguous_id={key: i for i, key in enumerate(ids)},
            )
