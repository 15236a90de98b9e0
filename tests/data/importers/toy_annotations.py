"""The same two objects in three frames, in the formats of annotation tools.

Frames are 8 x 12 pixels (H x W). Object 1, a "car", covers columns 1-4 and rows 2-5; in frame 1 a
second object hides its right half, in frame 2 it is hidden in full. Object 2, a "bus", is in the
open.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HEIGHT, WIDTH, FRAMES = 8, 12, 3
CAR, HALF, BUS = (1, 2, 4, 5), (1, 2, 2, 5), (6, 1, 9, 6)
"""Boxes x0, y0, x1, y1, both ends included."""

SHAPES: list[list[tuple[int, str, str, tuple[int, int, int, int]]]] = [
    [(1, "car", "visible", CAR), (1, "car", "amodal", CAR), (2, "bus", "visible", BUS)],
    [(1, "car", "visible", HALF), (1, "car", "amodal", CAR), (2, "bus", "visible", BUS)],
    [(1, "car", "amodal", CAR), (2, "bus", "visible", BUS)],
]
"""Per frame: object, category, kind, box."""


def box_mask(box: tuple[int, int, int, int]) -> np.ndarray:
    """Return the mask of a box, bool [H, W]."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    return mask


def outline(box: tuple[int, int, int, int]) -> list[list[float]]:
    """Return corners whose polygon rasterises to the box."""
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1 + 1, y0], [x1 + 1, y1 + 1], [x0, y1 + 1]]


def write_frames(folder: Path, suffix: str = ".png") -> None:
    """Write the three pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(FRAMES):
        cv2.imwrite(str(folder / f"{frame:03d}{suffix}"), np.full((HEIGHT, WIDTH, 3), 9, np.uint8))


def write_labelme(folder: Path) -> None:
    """Write one labelme file per frame beside its picture."""
    write_frames(folder)
    for frame, shapes in enumerate(SHAPES):
        entries: list[dict[str, Any]] = [
            {
                "label": f"{category}_{kind}" if kind == "amodal" else category,
                "group_id": key,
                "points": outline(box),
                "shape_type": "polygon",
                "flags": {},
            }
            for key, category, kind, box in shapes
        ]
        data = {
            "version": "5.5.0",
            "imagePath": f"{frame:03d}.png",
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
            "shapes": entries,
        }
        (folder / f"{frame:03d}.json").write_text(json.dumps(data))


def _cvat_runs(box: tuple[int, int, int, int]) -> str:
    x0, y0, x1, y1 = box
    size = (x1 - x0 + 1) * (y1 - y0 + 1)
    return f'rle="0, {size}" left="{x0}" top="{y0}" width="{x1 - x0 + 1}" height="{y1 - y0 + 1}"'


def write_cvat(file: Path) -> None:
    """Write an export with one track per object and kind; visible ones as runs."""
    tracks: dict[tuple[int, str, str], list[str]] = {}
    for frame, shapes in enumerate(SHAPES):
        for key, category, kind, box in shapes:
            values = {"object": key, "kind": kind}
            attributes = "".join(
                f'<attribute name="{name}">{value}</attribute>' for name, value in values.items()
            )
            points = ";".join(f"{x},{y}" for x, y in outline(box))
            shape = (
                f'<polygon points="{points}"' if kind == "amodal" else f"<mask {_cvat_runs(box)}"
            )
            tag = shape.split()[0][1:]
            tracks.setdefault((key, category, kind), []).append(
                f'{shape} frame="{frame}" outside="0">{attributes}</{tag}>'
            )
        gone = f'<mask {_cvat_runs(CAR)} frame="2" outside="1"></mask>'
    tracks[1, "car", "visible"].append(gone)
    body = "".join(
        f'<track id="{number}" label="{category}">{"".join(shapes)}</track>'
        for number, ((_, category, _), shapes) in enumerate(tracks.items())
    )
    file.write_text(
        f"<annotations><meta><task><name>drive</name><size>{FRAMES}</size><start_frame>0"
        f"</start_frame><original_size><width>{WIDTH}</width><height>{HEIGHT}</height>"
        f"</original_size></task></meta>{body}</annotations>"
    )


def write_mask_folders(root: Path) -> None:
    """Write the tree of masks."""
    write_frames(root / "drive" / "frames", ".jpg")
    for frame, shapes in enumerate(SHAPES):
        for key, category, kind, box in shapes:
            folder = root / "drive" / "masks" / f"{category}_{key}" / kind
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{frame:03d}.png"), box_mask(box).astype(np.uint8) * 255)


def write_coco(file: Path) -> None:
    """Write a COCO file with track ids, polygons and one entry per object and frame."""
    write_frames(file.parent / "drive")
    annotations = []
    for frame, shapes in enumerate(SHAPES):
        for key in (1, 2):
            own = [(kind, box) for number, _, kind, box in shapes if number == key]
            masks = {f"{kind}_segm": [np.ravel(outline(box)).tolist()] for kind, box in own}
            entry = {"id": len(annotations) + 1, "image_id": frame + 7, "category_id": 3 * key}
            annotations.append({**entry, "track_id": key, **masks})
    images = [
        {
            "id": frame + 7,
            "file_name": f"drive/{frame:03d}.png",
            "height": HEIGHT,
            "width": WIDTH,
            "video_id": 1,
            "frame_index": frame,
        }
        for frame in range(FRAMES)
    ]
    categories = [{"id": 3, "name": "car"}, {"id": 6, "name": "bus"}]
    data = {"images": images, "categories": categories, "annotations": annotations}
    file.write_text(json.dumps(data))
