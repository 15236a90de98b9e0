"""The built-in datasets. Their root is ``$DETECTRON2_DATASETS``, else ``datasets/``."""

from __future__ import annotations

import os

from amodal2.data.datasets.catalog import registered_by
from amodal2.data.datasets.categories import AQUARIUM_CATEGORIES
from amodal2.data.datasets.video_amodal import register_video_amodal_instances
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

_CLASS_AGNOSTIC = {1: "object"}

VIDEO_DATASETS: dict[str, tuple[str, str, dict[int, str] | None]] = {
    "aquarium_v1_amodal_train": ("aquarium/train.json", "aquarium", AQUARIUM_CATEGORIES),
    "aquarium_v1_amodal_val": ("aquarium/val.json", "aquarium", AQUARIUM_CATEGORIES),
    "coco_2017frames_visible_train": ("coco/frames_train2017.json", "coco", None),
    "fishbowl_v1_amodal_train": ("fishbowl/train.json", "fishbowl", None),
    "fishbowl_v1_amodal_val": ("fishbowl/val.json", "fishbowl", None),
    "fishbowl_v1_amodal_test": ("fishbowl/test.json", "fishbowl", None),
    "movid_a_amodal_train": ("movid_a/train.json", "movid_a", _CLASS_AGNOSTIC),
    "movid_a_amodal_test": ("movid_a/test.json", "movid_a", _CLASS_AGNOSTIC),
    "ovis_personcar_visible_train": ("ovis/person_car.json", "ovis", None),
    "ovis_v1_visible_train": ("ovis/train.json", "ovis", None),
    "sailvos_25f_amodal_train": ("sailvos/train.json", "sailvos", None),
    "sailvos_25f_amodal_val": ("sailvos/val.json", "sailvos", None),
    "ytvis_2019_visible_train": ("ytvis_2019/train.json", "ytvis_2019", None),
    "ytvis_2021_visible_train": ("ytvis_2021/train.json", "ytvis_2021", None),
}
"""Dataset name -> (annotation file and folder of its frame paths below the root, categories).

Categories are None where the preparation's options or the file decide them; then the metadata have
class names once the file has been read. ``_amodal`` or ``_visible`` (visible masks only) keeps the
names apart from those of other projects: Mask2Former and VITA register ``ytvis_2019_train``.
"""


def datasets_root() -> str:
    """Return the folder that all built-in datasets lie in."""
    return os.environ.get("DETECTRON2_DATASETS") or "datasets"


def register_builtin_datasets(root: str) -> None:
    """Register every row of the table; a name that somebody else has taken is left to them.

    Args:
        root: folder that all datasets lie in.
    """
    for name, (json_file, frames, categories) in VIDEO_DATASETS.items():
        owner = registered_by(name)
        if owner is not None:
            logger.warning("dataset %s stays as %s has registered it", name, owner)
            continue
        register_video_amodal_instances(
            name, os.path.join(root, json_file), os.path.join(root, frames), categories=categories
        )
