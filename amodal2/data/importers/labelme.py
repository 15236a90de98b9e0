"""labelme: one JSON file per frame, polygons with a label and a ``group_id``.

A folder holds the frames of one video, its subfolders one video each. Shapes of one object share
their ``group_id``, from frame to frame as well; the kind of a shape is the last word of its label,
its description or a flag (see ``labels``). A shape without a kind is the visible part.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal2.data.importers.labels import KINDS, split_label
from amodal2.data.importers.video_import import ObjectMasks, SourceVideo, unite
from amodal2.structures.mask_checks import size_problem
from amodal2.structures.rle import RLE, polygons_to_rle
from amodal2.utils.errors import AnnotationError
from amodal2.utils.frames import natural_key
from amodal2.utils.json_input import is_text, read_json


def read_labelme(folder: str | Path, base: str | Path) -> Iterator[SourceVideo]:
    """Read videos annotated with labelme.

    Frames are ordered by the names of their JSON files, numbers by value.

    Args:
        folder: with the JSON files of one video, or one subfolder per video.
        base: folder that the frame paths will be relative to.

    Yields:
        SourceVideo: one per folder with JSON files.

    Raises:
        FileNotFoundError: if there is no JSON file.
        AnnotationError: naming the file and shape that cannot be read.
    """
    root = Path(folder)
    folders = [path for path in (root, *sorted(root.glob("*/"))) if any(path.glob("*.json"))]
    if not folders:
        raise FileNotFoundError(
            f"read_labelme: expected *.json files in {root} or its subfolders, got none"
        )
    for path in folders:
        yield _read_video(path, Path(base))


def _read_video(folder: Path, base: Path) -> SourceVideo:
    files = sorted(folder.glob("*.json"), key=lambda path: natural_key(path.name))
    video: SourceVideo | None = None
    for frame, file in enumerate(files):
        data = _parse(file)
        size = data["imageHeight"], data["imageWidth"]
        if video is None:
            video = SourceVideo(folder.name, *size, [])
        if size != (video.height, video.width):
            raise AnnotationError(
                f"read_labelme: expected frames of {video.height}x{video.width} (H x W) as the "
                f"first of the video, got {size[0]}x{size[1]}",
                file=file,
            )
        image = os.path.normpath(file.parent / data["imagePath"])
        video.file_names.append(Path(os.path.relpath(image, base)).as_posix())
        for index, shape in enumerate(data["shapes"]):
            _add_shape(video, frame, shape, file, f"shapes[{index}]")
    assert video is not None, "a folder without files was not chosen"
    return video


def _parse(file: Path) -> dict[str, Any]:
    data = read_json(file, "read_labelme")
    kinds = {"imageHeight": int, "imageWidth": int, "imagePath": str, "shapes": list}
    for key, kind in kinds.items():
        value = data.get(key) if isinstance(data, dict) else None
        if type(value) is not kind or (kind is str and not is_text(value)):
            raise AnnotationError(
                f"read_labelme: expected {key} of type {kind.__name__}, got {value!r:.80}",
                file=file,
                key=key,
            )
    problem = size_problem({"height": data["imageHeight"], "width": data["imageWidth"]})
    if problem is not None:
        raise AnnotationError(f"read_labelme: {problem[1]}", file=file, key="imageHeight")
    return data


def _add_shape(video: SourceVideo, frame: int, shape: Any, file: Path, place: str) -> None:
    if not isinstance(shape, dict) or not is_text(shape.get("label")):
        raise AnnotationError("read_labelme: expected a shape with a label", file=file, key=place)
    if type(shape.get("group_id")) is not int:
        raise AnnotationError(
            "read_labelme: expected an integer group_id, the same in all frames of an object, got "
            f"{shape.get('group_id')!r}",
            file=file,
            key=place,
        )
    flags, note = shape.get("flags") or {}, shape.get("description") or ""
    if not isinstance(flags, dict) or not isinstance(note, str):
        raise AnnotationError(
            f"read_labelme: expected flags by name and text as description, got {flags!r:.40} and "
            f"{note!r:.40}",
            file=file,
            key=place,
        )
    hint = " ".join([note, *(name for name, on in flags.items() if on)])
    category, kind = split_label(shape["label"], hint)
    rle = _rasterise(shape, video, file, place)
    masks: ObjectMasks = video.masks(shape["group_id"], category, frame)
    name = kind or KINDS[0]
    setattr(masks, name, unite(getattr(masks, name), rle))


def _rasterise(shape: dict[str, Any], video: SourceVideo, file: Path, place: str) -> RLE:
    points = shape.get("points")
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        raise AnnotationError(
            f"read_labelme: expected a list of points x, y, got {points!r:.80}",
            file=file,
            key=f"{place}.points",
        )
    if shape.get("shape_type", "polygon") == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    elif shape.get("shape_type", "polygon") != "polygon":
        raise AnnotationError(
            f"read_labelme: expected shape_type polygon or rectangle, got {shape['shape_type']!r}",
            file=file,
            key=place,
        )
    try:
        flat = [value for point in points for value in point]
        return polygons_to_rle([flat], video.height, video.width)
    except ValueError as error:
        raise AnnotationError(f"read_labelme: {error}", file=file, key=f"{place}.points") from error
