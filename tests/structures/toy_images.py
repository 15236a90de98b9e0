"""Tiny image datasets whose scores can be worked out by hand: bars on images of 4 x 20 pixels."""

from __future__ import annotations

from pathlib import Path

from amodal2.structures.image_json import ImageDataset, read_image_json
from tests.structures.toy_videos import CRAB, FISH, SIZE, bar, write


def thing(number: int, image: int = 1, category: int = FISH, **keys: object) -> dict:
    """Return an object of columns 0 to 10 of which 0 to 5 are visible, unless told otherwise."""
    record = {"id": number, "image_id": image, "category_id": category, "iscrowd": 0}
    return record | {"amodal_segm": bar(0, 10), "visible_segm": bar(0, 5), **keys}


def found(score: float, image: int = 1, category: int = FISH, **masks: object) -> dict:
    """Return a predicted record; masks are given by keyword."""
    return {"image_id": image, "category_id": category, "score": score, **masks}


def image_content(*objects: dict, images: int = 1) -> dict:
    """Return the content of an annotation file."""
    height, width = SIZE
    return {
        "images": [
            {"id": number, "height": height, "width": width, "file_name": f"{number}.png"}
            for number in range(1, images + 1)
        ],
        "categories": [{"id": CRAB, "name": "crab"}, {"id": FISH, "name": "fish"}],
        "annotations": list(objects),
    }


def image_dataset(folder: Path, *objects: dict, images: int = 1) -> ImageDataset:
    """Write and read an annotation file."""
    return read_image_json(write(folder, image_content(*objects, images=images)))
