"""The built-in datasets. Their root is ``$DETECTRON2_DATASETS``, else ``datasets/``."""

from __future__ import annotations

import os

from amodal2.data.datasets.categories import AQUARIUM_CATEGORIES
from amodal2.data.datasets.video_amodal import register_video_amodal_instances

VIDEO_DATASETS: dict[str, tuple[str, str, dict[int, str]]] = {
    "aquarium_v1_amodal_train": ("aquarium/train.json", "aquarium", AQUARIUM_CATEGORIES),
    "aquarium_v1_amodal_val": ("aquarium/val.json", "aquarium", AQUARIUM_CATEGORIES),
}
"""Dataset name -> (annotation file and folder of its frame paths below the root, categories)."""


def datasets_root() -> str:
    """Return the folder that all built-in datasets lie in."""
    return os.environ.get("DETECTRON2_DATASETS") or "datasets"


def register_builtin_datasets(root: str) -> None:
    """Register every row of the table.

    Args:
        root: folder that all datasets lie in.
    """
    for name, (json_file, frames, categories) in VIDEO_DATASETS.items():
        register_video_amodal_instances(
            name, os.path.join(root, json_file), os.path.join(root, frames), categories=categories
        )
