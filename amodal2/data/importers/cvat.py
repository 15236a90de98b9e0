"""CVAT, format "CVAT for video 1.1": one XML file with tracks of polygons or masks.

The two outlines of an object are two tracks with one label. They are joined by the number in their
attribute ``object`` (or ``object_id``); their kind is the value of the attribute ``kind``, or the
last word of the label (see ``labels``). A track without that attribute is an object of its own, one
without a kind is the visible part. Shapes marked ``outside`` are absent.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from amodal2.data.importers.labels import KINDS, split_label
from amodal2.data.importers.video_import import SourceVideo, unite
from amodal2.structures.mask_checks import size_problem
from amodal2.structures.rle import RLE, encode_mask, polygons_to_rle
from amodal2.utils.errors import AnnotationError

_OBJECT_ATTRIBUTES = ("object", "object_id")
_FRAME_NAME = "{:06d}.png"
LARGEST_NUMBER = 10_000_000
"""Of frames, or of pixels of a side: the frames are listed by name."""


def read_cvat(file: str | Path, frames: list[str] | None = None) -> Iterator[SourceVideo]:
    """Read one video annotated with CVAT.

    Args:
        file: XML file of the export.
        frames: paths of the frames, relative to the folder of the JSON that will be written; None
            takes ``<task name>/000000.png`` and so on, which CVAT's frame export gives.

    Yields:
        SourceVideo: the video.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is not of this format, or naming the track and frame that cannot be
            read.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"read_cvat: expected an XML file, got no such file {path}")
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise AnnotationError(f"read_cvat: expected XML, got {error}", file=path) from error
    task = root.find("meta/task") if root.tag == "annotations" else None
    if task is None:
        task = root.find("meta/job") if root.tag == "annotations" else None
    if task is None or task.find("original_size") is None:
        raise AnnotationError(
            'read_cvat: expected an export in the format "CVAT for video 1.1" with meta/task and '
            f"original_size, got <{root.tag}>",
            file=path,
        )
    yield _read_task(root, task, path, frames)


def _read_task(root: Element, task: Element, path: Path, frames: list[str] | None) -> SourceVideo:
    name = (task.findtext("name") or path.stem).strip()
    length = _number(task.findtext("size"), path, "meta/task/size")
    if frames is None:
        frames = [f"{name}/{_FRAME_NAME.format(index)}" for index in range(length)]
    if len(frames) != length:
        raise AnnotationError(
            f"read_cvat: expected {length} frames as the task has, got {len(frames)}", file=path
        )
    height = _number(task.findtext("original_size/height"), path, "original_size/height")
    width = _number(task.findtext("original_size/width"), path, "original_size/width")
    problem = size_problem({"height": height, "width": width})
    if problem is not None:
        raise AnnotationError(f"read_cvat: {problem[1]}", file=path, key="original_size")
    video = SourceVideo(name, height, width, frames)
    first = _number(task.findtext("start_frame") or "0", path, "meta/task/start_frame")
    for track in root.iter("track"):
        _add_track(video, track, first, path)
    return video


def _add_track(video: SourceVideo, track: Element, first: int, path: Path) -> None:
    number = track.get("id")
    for shape in track:
        if shape.get("outside") == "1":
            continue
        attributes = {
            str(entry.get("name")).lower(): (entry.text or "").strip()
            for entry in shape.iter("attribute")
        }
        category, kind = split_label(track.get("label", ""), attributes.get("kind", ""))
        named = next((attributes[key] for key in _OBJECT_ATTRIBUTES if attributes.get(key)), None)
        place = f"track {number}, frame {shape.get('frame')}"
        frame = _number(shape.get("frame"), path, place) - first
        if not 0 <= frame < len(video.file_names):
            raise AnnotationError(
                f"read_cvat: expected frames {first} to {first + len(video.file_names) - 1}, got "
                f"{frame + first}",
                file=path,
                key=place,
            )
        masks = video.masks(named or f"track {number}", category, frame)
        name = kind or KINDS[0]
        setattr(masks, name, unite(getattr(masks, name), _rasterise(shape, video, path, place)))


def _rasterise(shape: Element, video: SourceVideo, path: Path, place: str) -> RLE:
    try:
        if shape.tag == "polygon":
            return polygons_to_rle([_outline(shape)], video.height, video.width)
        if shape.tag == "mask":
            return _decode_mask(shape, video)
    except ValueError as error:
        raise AnnotationError(f"read_cvat: {error}", file=path, key=place) from error
    raise AnnotationError(
        f"read_cvat: expected polygon or mask shapes, got {shape.tag}", file=path, key=place
    )


def _outline(shape: Element) -> list[float]:
    pairs = [point.split(",") for point in shape.get("points", "").split(";")]
    try:
        return [float(value) for pair in pairs for value in pair]
    except ValueError:
        raise ValueError(
            f"expected points as x,y;x,y;..., got {shape.get('points')!r:.80}"
        ) from None


def _decode_mask(shape: Element, video: SourceVideo) -> RLE:
    """Decode CVAT's runs, row by row inside a box, background first."""
    texts = {key: shape.get(key, "") for key in ("left", "top", "width", "height", "rle")}
    try:
        runs = [int(run) for run in texts.pop("rle").split(",")]
        left, top, width, height = map(int, texts.values())
    except ValueError:
        raise ValueError(
            "expected a mask with whole numbers in left, top, width, height and rle, got "
            f"{shape.attrib!r:.200}"
        ) from None
    across = 0 <= left <= left + width <= video.width
    down = 0 <= top <= top + height <= video.height
    if not (across and down) or min(runs) < 0 or sum(runs) != width * height:
        raise ValueError(
            f"expected runs that fill a box inside {video.width}x{video.height}, got "
            f"{sum(runs)} pixels for {width}x{height} at {left},{top}"
        )
    values = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    mask = np.zeros((video.height, video.width), dtype=bool)
    mask[top : top + height, left : left + width] = values
    return encode_mask(mask)


def _number(text: str | None, path: Path, place: str) -> int:
    try:
        number = int(text or "")
        if abs(number) > LARGEST_NUMBER:
            raise ValueError
        return number
    except ValueError:
        raise AnnotationError(
            f"read_cvat: expected a whole number, got {text!r}", file=path, key=place
        ) from None
