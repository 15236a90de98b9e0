"""Datasets: readers of annotation files and the table of built-in datasets.

Importing this package registers the built-in datasets in Detectron2's catalogue; their files are
read when they are used.
"""

from amodal2.data.datasets.builtin import datasets_root, register_builtin_datasets
from amodal2.data.datasets.categories import dataset_categories
from amodal2.data.datasets.coco_amodal import (
    load_amodal_coco_json,
    register_amodal_coco_instances,
)
from amodal2.data.datasets.video_amodal import (
    load_video_amodal_json,
    register_video_amodal_instances,
)

register_builtin_datasets(datasets_root())

__all__ = [
    "dataset_categories",
    "datasets_root",
    "load_amodal_coco_json",
    "load_video_amodal_json",
    "register_amodal_coco_instances",
    "register_builtin_datasets",
    "register_video_amodal_instances",
]
