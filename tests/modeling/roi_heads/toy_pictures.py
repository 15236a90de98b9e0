"""A tiny image dataset on disk: a bar in front of a block, in other places in every image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.data.datasets import register_amodal_coco_instances
from amodal2.structures import encode_mask
from tests.modeling.roi_heads.tiny import SIZE
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import CRAB, FISH, write

NAME = "toy_2026_amodal_pictures"


def make_pictures(folder: Path, count: int = 3) -> str:
    """Write and register the dataset; return its name."""
    objects = []
    for number in range(1, count + 1):
        image = np.full((*SIZE, 3), 30, np.uint8)
        front, back = np.zeros((2, *SIZE), dtype=bool)
        left = 8 + 10 * number
        front[6:56, left + 16 : left + 34] = True
        back[16:48, left : left + 40] = True
        image[back], image[front] = (200, 60, 40), (40, 60, 200)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        for k, (mask, seen, category) in enumerate(
            ((front, front, CRAB), (back, back & ~front, FISH))
        ):
            masks = {"amodal_segm": encode_mask(mask), "visible_segm": encode_mask(seen)}
            objects.append(thing(2 * number + k, number, category, **masks))
    content = image_content(*objects, images=count)
    for entry in content["images"]:
        entry.update(height=SIZE[0], width=SIZE[1])
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
    register_amodal_coco_instances(NAME, write(folder, content), folder)
    return NAME
