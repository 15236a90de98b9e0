"""Valid annotation and prediction files, small enough to be scored thousands of times a minute.

Two scenes of other sizes, three classes, masks in all forms that are accepted: the mutations start
from here. Everything is made anew on each call, so that it can be changed in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from amodal2.structures.rle import encode_mask

SIZES = ((6, 10), (8, 12))
"""Height and width of the two scenes."""
LENGTHS = (3, 2)
"""Frames of the two videos."""
CATEGORIES = {2: "fish", 3: "crab", 7: "eel"}

Json = Any


def rle(size: tuple[int, int], box: tuple[int, int, int, int]) -> Json:
    """Return the compressed mask of a box x0, y0, x1, y1, ends excluded."""
    mask = np.zeros(size, dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return encode_mask(mask)


def runs(size: tuple[int, int], box: tuple[int, int, int, int]) -> Json:
    """Return the same mask as uncompressed runs."""
    x0, y0, x1, y1 = box
    counts = [x0 * size[0] + y0]
    for _ in range(x1 - x0):
        counts += [y1 - y0, size[0] - (y1 - y0)]
    counts[-1] += size[0] * size[1] - sum(counts)
    return {"size": [*size], "counts": counts}


def polygon(size: tuple[int, int], box: tuple[int, int, int, int]) -> Json:
    """Return the same mask as a polygon."""
    del size
    x0, y0, x1, y1 = box
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def _categories() -> Json:
    return [{"id": key, "name": name} for key, name in CATEGORIES.items()]


def images() -> Json:
    """Return an image file: objects in the open, hidden in part and in full, and a crowd."""
    first, second = SIZES
    objects = [
        {"image_id": 1, "category_id": 2, "amodal_segm": rle(first, (1, 1, 6, 5))}
        | {"visible_segm": rle(first, (1, 1, 4, 5)), "occlusion_rate": 0.4, "amodal_area": 20},
        {"image_id": 1, "category_id": 2, "amodal_segm": polygon(first, (4, 0, 9, 4))}
        | {"visible_segm": polygon(first, (4, 0, 9, 4)), "amodal_bbox": [4, 0, 5, 4]},
        {"image_id": 1, "category_id": 7, "amodal_segm": runs(first, (6, 1, 9, 3))}
        | {"visible_segm": None, "visible_area": 0, "isStuff": 1},
        {"image_id": 5, "category_id": 3, "segmentation": rle(second, (2, 2, 8, 7))}
        | {"inmodal_seg": runs(second, (2, 2, 5, 7)), "bbox": [2, 2, 6, 5], "iscrowd": 0},
        {"image_id": 5, "category_id": 3, "amodal_segm": rle(second, (7, 0, 12, 5))}
        | {"visible_segm": rle(second, (7, 0, 12, 5)), "iscrowd": 1},
    ]
    sizes = zip((1, 5), SIZES, strict=True)
    return {
        "images": [
            {"id": key, "height": size[0], "width": size[1], "file_name": f"{key}.png"}
            for key, size in sizes
        ],
        "categories": _categories(),
        "annotations": [{"id": 4 + i, **record} for i, record in enumerate(objects)],
    }


def image_predictions() -> Json:
    """Return predictions for :func:`images`: right, nearly right, doubled and wrong ones."""
    first, second = SIZES
    found = [
        (1, 2, 0.9, (1, 1, 6, 5), (1, 1, 4, 5)),
        (1, 2, 0.8, (4, 0, 9, 3), (5, 0, 9, 3)),
        (1, 2, 0.8, (4, 0, 9, 4), (4, 0, 9, 4)),
        (1, 7, 0.3, (6, 1, 9, 3), (6, 1, 7, 3)),
        (5, 3, 0.6, (2, 2, 8, 6), (2, 2, 5, 6)),
        (5, 2, 0.7, (0, 0, 4, 4), (0, 0, 4, 4)),
    ]
    records = []
    for image, category, score, amodal, visible in found:
        size = first if image == 1 else second
        records.append(
            {
                "image_id": image,
                "category_id": category,
                "score": score,
                "amodal_segm": rle(size, amodal),
                "visible_segm": runs(size, visible),
                "bbox": [amodal[0], amodal[1], amodal[2] - amodal[0], amodal[3] - amodal[1]],
            }
        )
    return records


def _tube(
    scene: int, box: tuple[int, int, int, int], speed: int, shown: tuple[int, ...]
) -> list[Json]:
    """Return masks of a box that moves to the right, null in frames that are not shown."""
    size = SIZES[scene]
    tube: list[Json] = []
    for frame in range(LENGTHS[scene]):
        x0, y0, x1, y1 = box[0] + speed * frame, box[1], box[2] + speed * frame, box[3]
        make = (rle, runs, polygon)[frame % 3]
        tube.append(make(size, (x0, y0, min(x1, size[1]), y1)) if frame in shown else None)
    return tube


def videos() -> Json:
    """Return a video file: tracks that are hidden, leave and are in the open."""
    tracks = [
        (0, 2, _tube(0, (0, 1, 3, 5), 1, (0, 1, 2)), _tube(0, (0, 1, 5, 5), 1, (0, 1, 2))),
        (0, 2, _tube(0, (6, 0, 9, 4), 0, (0, 2)), _tube(0, (6, 0, 9, 4), 0, (0, 1, 2))),
        (0, 7, _tube(0, (1, 0, 4, 3), 2, (0, 1)), _tube(0, (1, 0, 4, 3), 2, (0, 1))),
        (1, 3, _tube(1, (2, 2, 8, 7), 1, (0, 1)), _tube(1, (2, 2, 9, 7), 1, (0, 1))),
    ]
    records = []
    for number, (scene, category, visible, amodal) in enumerate(tracks, start=1):
        records.append(
            {
                "id": number,
                "video_id": scene + 1,
                "category_id": category,
                "iscrowd": 0,
                "segmentations": visible,
                "amodal_segmentations": amodal,
            }
        )
    records[0]["occlusion_rates"] = [0.4, 0.4, 0.4]
    records[3]["amodal_bboxes"] = [[2, 2, 7, 5], [3, 2, 7, 5]]
    records[3]["areas"] = [30, 30.5]
    return {
        "videos": [
            {
                "id": scene + 1,
                "height": SIZES[scene][0],
                "width": SIZES[scene][1],
                "length": LENGTHS[scene],
                "file_names": [f"clip{scene}/{t}.png" for t in range(LENGTHS[scene])],
            }
            for scene in range(2)
        ],
        "categories": _categories(),
        "annotations": records,
    }


def video_predictions() -> Json:
    """Return predictions for :func:`videos`."""
    found = [
        (0, 2, 0.9, (0, 1, 3, 5), 1, (0, 1, 2)),
        (0, 2, 0.8, (6, 0, 9, 3), 0, (0, 2)),
        (0, 2, 0.8, (6, 0, 9, 4), 0, (0, 1, 2)),
        (1, 3, 0.5, (2, 2, 8, 6), 1, (0, 1)),
        (1, 7, 0.6, (0, 0, 3, 3), 0, (1,)),
    ]
    records = []
    for number, (scene, category, score, box, speed, shown) in enumerate(found, start=1):
        wider = (box[0], box[1], box[2] + 1, box[3])
        records.append(
            {
                "id": number,
                "video_id": scene + 1,
                "category_id": category,
                "score": score,
                "segmentations": _tube(scene, box, speed, shown),
                "amodal_segmentations": _tube(scene, wider, speed, shown),
            }
        )
    records[0]["amodal_score"] = 0.95
    return records


def tracks_file() -> Json:
    """Return the same predictions as the demo writes them, with ids of their own."""
    content = videos()
    for entry in content["videos"]:
        entry["id"] += 10
        entry["file_name"] = f"clip{entry['id'] - 11}.mp4"
        del entry["file_names"]
    for entry in content["categories"]:
        entry["id"] += 10
    content["annotations"] = [
        record | {"video_id": record["video_id"] + 10, "category_id": record["category_id"] + 10}
        for record in video_predictions()
    ]
    return content


def image_completions() -> Json:
    """Return completions of the objects of :func:`images`, two samples of the first."""
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in images()["images"]}
    records = [
        {"gt_id": one["id"], "amodal_segm": rle(sizes[one["image_id"]], (1, 1, 6, 5))}
        for one in images()["annotations"]
    ]
    return [*records, {"gt_id": 4, "amodal_segm": rle(SIZES[0], (2, 1, 6, 5)), "sample": 1}]


def video_completions() -> Json:
    """Return completions of the tracks of :func:`videos`."""
    return [
        {"gt_id": one["id"], "amodal_segmentations": one["amodal_segmentations"]}
        for one in videos()["annotations"]
    ]
