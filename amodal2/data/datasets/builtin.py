"""The built-in datasets. Their root is ``$DETECTRON2_DATASETS``, else ``datasets/``."""

from __future__ import annotations

import os

from amodal2.data.datasets.catalog import registered_by
from amodal2.data.datasets.categories import (
    AQUARIUM_CATEGORIES,
    MARKET_CATEGORIES,
    PLAYROOM_CATEGORIES,
)
from amodal2.data.datasets.coco_amodal import register_amodal_coco_instances
from amodal2.data.datasets.video_amodal import register_video_amodal_instances
from amodal2.data.importers.cocoa import CLASS_AGNOSTIC
from amodal2.data.importers.cocoa_cars import CATEGORIES as CARS
from amodal2.data.importers.kins import CATEGORIES as KINS_CATEGORIES
from amodal2.data.importers.kins_video_car import CATEGORY as KINS_CAR
from amodal2.data.synthetic.chewing_gum import CATEGORIES as GUM_CATEGORIES
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

Row = tuple[str, str, dict[int, str] | None]

_GUM_OFFICIAL = ("chewing_gum_official", GUM_CATEGORIES)
_GUM_PAPER = ("chewing_gum_paper", GUM_CATEGORIES)
_KINS_CAR = ("kins_video_car", {1: KINS_CAR})

VIDEO_DATASETS: dict[str, Row] = {
    "aquarium_dense_amodal_train": (
        "aquarium_dense/train.json",
        "aquarium_dense",
        AQUARIUM_CATEGORIES,
    ),
    "aquarium_v1_amodal_train": ("aquarium/train.json", "aquarium", AQUARIUM_CATEGORIES),
    "aquarium_v1_amodal_val": ("aquarium/val.json", "aquarium", AQUARIUM_CATEGORIES),
    "chewinggum_official_amodal_train": ("chewing_gum_official/train.json", *_GUM_OFFICIAL),
    "chewinggum_official_amodal_test": ("chewing_gum_official/test.json", *_GUM_OFFICIAL),
    "chewinggum_paper_amodal_train": ("chewing_gum_paper/train.json", *_GUM_PAPER),
    "chewinggum_paper_amodal_val": ("chewing_gum_paper/val.json", *_GUM_PAPER),
    "chewinggum_paper_amodal_test": ("chewing_gum_paper/test.json", *_GUM_PAPER),
    "coco_2017frames_visible_train": ("coco/frames_train2017.json", "coco", None),
    "fishbowl_v1_amodal_train": ("fishbowl/train.json", "fishbowl", None),
    "fishbowl_v1_amodal_val": ("fishbowl/val.json", "fishbowl", None),
    "fishbowl_v1_amodal_test": ("fishbowl/test.json", "fishbowl", None),
    "kins_videocar_visible_train": ("kins_video_car/train.json", *_KINS_CAR),
    "kins_videocar_visible_val": ("kins_video_car/val.json", *_KINS_CAR),
    "kins_videocar_visible_test": ("kins_video_car/test.json", *_KINS_CAR),
    "movid_a_amodal_train": ("movid_a/train.json", "movid_a", CLASS_AGNOSTIC),
    "movid_a_amodal_test": ("movid_a/test.json", "movid_a", CLASS_AGNOSTIC),
    "ovis_personcar_visible_train": ("ovis/person_car.json", "ovis", None),
    "ovis_v1_visible_train": ("ovis/train.json", "ovis", None),
    "playroom_v1_amodal_train": ("playroom/train.json", "playroom", PLAYROOM_CATEGORIES),
    "playroom_v1_amodal_val": ("playroom/val.json", "playroom", PLAYROOM_CATEGORIES),
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

_KINS_TRAIN, _KINS_TEST = "kins/training/image_2", "kins/testing/image_2"

IMAGE_DATASETS: dict[str, Row] = {
    "cityscapes_cars_amodal_train": ("cityscapes/complete_cars_train.json", "cityscapes", CARS),
    "cocoa_cars_amodal_train": ("cocoa/cars_train.json", "coco/train2014", CARS),
    "cocoa_cars_amodal_val": ("cocoa/cars_val.json", "coco/val2014", CARS),
    "cocoa_2014_amodal_train": ("cocoa/train.json", "coco/train2014", CLASS_AGNOSTIC),
    "cocoa_2014_amodal_val": ("cocoa/val.json", "coco/val2014", CLASS_AGNOSTIC),
    "cocoa_cls_amodal_train": ("cocoa_cls/train.json", "coco/train2014", None),
    "cocoa_cls_amodal_val": ("cocoa_cls/val.json", "coco/val2014", None),
    "d2sa_v1_amodal_train": ("d2sa/train.json", "d2sa/images", None),
    "d2sa_v1_amodal_val": ("d2sa/val.json", "d2sa/images", None),
    "kins_2019_amodal_train": ("kins/train.json", _KINS_TRAIN, KINS_CATEGORIES["2019"]),
    "kins_2019_amodal_test": ("kins/test.json", _KINS_TEST, KINS_CATEGORIES["2019"]),
    "kins_2020_amodal_train": ("kins2020/train.json", _KINS_TRAIN, KINS_CATEGORIES["2020"]),
    "kins_2020_amodal_test": ("kins2020/test.json", _KINS_TEST, KINS_CATEGORIES["2020"]),
    "kins_videocar_amodal_test": (
        "kins_video_car/test_kins.json",
        "kins_video_car",
        KINS_CATEGORIES["2019"],
    ),
    "market_v1_amodal_train": ("market/train.json", "market", MARKET_CATEGORIES),
    "market_v1_amodal_val": ("market/val.json", "market", MARKET_CATEGORIES),
}
"""The same of image datasets; both releases of KINS and both kinds of COCOA share their images."""


def datasets_root() -> str:
    """Return the folder that all built-in datasets lie in."""
    return os.environ.get("DETECTRON2_DATASETS") or "datasets"


def register_builtin_datasets(root: str) -> None:
    """Register every row of the tables; a name that somebody else has taken is left to them.

    Args:
        root: folder that all datasets lie in.
    """
    for table, register in (
        (VIDEO_DATASETS, register_video_amodal_instances),
        (IMAGE_DATASETS, register_amodal_coco_instances),
    ):
        for name, (json_file, folder, categories) in table.items():
            owner = registered_by(name)
            if owner is not None:
                logger.warning("dataset %s stays as %s has registered it", name, owner)
                continue
            json_path, files = os.path.join(root, json_file), os.path.join(root, folder)
            register(name, json_path, files, categories=categories)
