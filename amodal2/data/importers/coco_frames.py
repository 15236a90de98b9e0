"""COCO files whose images are the frames of videos and whose annotations have track ids.

``images`` need ``video_id`` (or ``video``) and ``frame_index`` (or ``frame_id``) beside
id, file_name, height and width; ``annotations`` need ``track_id`` (or ``instance_id``), image_id,
category_id and masks: ``amodal_segm`` and ``visible_segm``, or one of the other pairs of names in
``MASK_KEYS``. Stock COCO files, without track ids, are read as videos of one frame each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal2.data.importers.flat_coco import check_images, parse_categories
from amodal2.data.importers.video_import import SourceVideo
from amodal2.structures.annotation_file import parse_annotations
from amodal2.structures.rle import to_rle, validate_rle
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import check_entries, is_id, is_text

MASK_KEYS = {
    "amodal": ("amodal_segm", "a_segm"),
    "visible": ("visible_segm", "inmodal_seg", "i_segm", "visible_mask"),
}
"""Kind of mask -> names of its key, the first one present counts; ``segmentation`` is the amodal
mask beside a visible one, and the visible mask where it stands alone."""

_VIDEO_KEYS = ("video_id", "video")
_FRAME_KEYS = ("frame_index", "frame_id")
_TRACK_KEYS = ("track_id", "instance_id")


def read_coco_frames(
    file: str | Path, frames_root: str | Path, base: str | Path, *, single_images: bool = False
) -> Iterator[SourceVideo]:
    """Read the videos of a COCO file with track ids.

    Args:
        file: JSON file.
        frames_root: folder that ``file_name`` is relative to.
        base: folder that the frame paths will be relative to.
        single_images: take every image as a video of its own and every annotation as a track;
            crowds (``iscrowd``) and images without annotations are left out.

    Yields:
        SourceVideo: in the order of the video ids.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: naming file, image, annotation and key of what cannot be read.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"read_coco_frames: expected a JSON file, got no such file {path}")
    data = parse_annotations(path, ("images", "categories", "annotations"), "read_coco_frames")
    if single_images:
        _split_into_videos(data)
    yield from _Reader(path, data).videos(Path(os.path.relpath(frames_root, base)))


def _split_into_videos(data: dict[str, Any]) -> None:
    """Give images and annotations the ids of videos and tracks that they lack."""
    objects = [entry for entry in data["annotations"] if not entry.get("iscrowd")]
    used = {entry.get("image_id") for entry in objects}
    data["annotations"] = [entry | {_TRACK_KEYS[0]: entry.get("id")} for entry in objects]
    data["images"] = [
        entry | {_VIDEO_KEYS[0]: entry.get("id"), _FRAME_KEYS[0]: 0}
        for entry in data["images"]
        if entry.get("id") in used
    ]


class _Reader:
    """Sorts the images into videos, then the annotations into these."""

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self.path, self.data = path, data
        self.names = parse_categories(data, "read_coco_frames", path)
        check_images(data["images"], "read_coco_frames", path)
        kinds = {"image_id": int, "category_id": int}
        check_entries(data["annotations"], kinds, "read_coco_frames", path, "annotations")

    def videos(self, prefix: Path) -> Iterator[SourceVideo]:
        groups: dict[Any, list[dict[str, Any]]] = {}
        for image in self.data["images"]:
            groups.setdefault(self._get(image, _VIDEO_KEYS, "image"), []).append(image)
        places: dict[Any, tuple[SourceVideo, int]] = {}
        found = []
        for key in sorted(groups, key=lambda value: (str(type(value)), value)):
            frames = sorted(groups[key], key=lambda image: self._get(image, _FRAME_KEYS, "image"))
            height, width = frames[0]["height"], frames[0]["width"]
            for image in frames:
                if (image["height"], image["width"]) != (height, width):
                    raise AnnotationError(
                        f"read_coco_frames: expected frames of {height}x{width} (H x W) as the "
                        f"first of the video, got {image['height']}x{image['width']}",
                        file=self.path,
                        image_id=image["id"],
                    )
            names = [(prefix / image["file_name"]).as_posix() for image in frames]
            video = SourceVideo(str(key), height, width, names)
            places.update({image["id"]: (video, index) for index, image in enumerate(frames)})
            found.append(video)
        for annotation in self.data["annotations"]:
            self._add(annotation, places)
        yield from found

    def _add(self, annotation: dict[str, Any], places: dict[Any, tuple[SourceVideo, int]]) -> None:
        track = self._get(annotation, _TRACK_KEYS, "annotation")
        category = self.names.get(annotation["category_id"])
        if annotation["image_id"] not in places or category is None:
            key = "category_id" if category is None else "image_id"
            raise AnnotationError(
                f"read_coco_frames: expected a listed {key}, got {annotation.get(key)!r}",
                file=self.path,
                annotation_id=annotation.get("id"),
                key=key,
            )
        video, frame = places[annotation["image_id"]]
        masks = video.masks(track, category, frame)
        for kind, key in self._mask_keys(annotation):
            if getattr(masks, kind) is not None:
                raise AnnotationError(
                    f"read_coco_frames: expected one {kind} mask of track {track!r} in an image, "
                    "got two",
                    file=self.path,
                    image_id=annotation["image_id"],
                    annotation_id=annotation.get("id"),
                    key=key,
                )
            try:
                rle = to_rle(annotation[key], video.height, video.width)
                validate_rle(rle, (video.height, video.width))
            except ValueError as error:
                raise AnnotationError(
                    f"read_coco_frames: {error}",
                    file=self.path,
                    annotation_id=annotation.get("id"),
                    key=key,
                ) from error
            setattr(masks, kind, rle)

    def _mask_keys(self, annotation: dict[str, Any]) -> list[tuple[str, str]]:
        found = {}
        for kind, names in MASK_KEYS.items():
            name = next((name for name in names if annotation.get(name) is not None), None)
            if name is not None:
                found[kind] = name
        if annotation.get("segmentation") is not None:
            found.setdefault("amodal" if "visible" in found else "visible", "segmentation")
        if not found:
            raise AnnotationError(
                "read_coco_frames: expected a mask, got none of segmentation, "
                + ", ".join(name for names in MASK_KEYS.values() for name in names),
                file=self.path,
                annotation_id=annotation.get("id"),
            )
        return list(found.items())

    def _get(self, entry: dict[str, Any], keys: tuple[str, ...], what: str) -> Any:
        value = next((entry[key] for key in keys if entry.get(key) is not None), None)
        if not is_id(value) and (keys == _FRAME_KEYS or not is_text(value)):
            place = {f"{what}_id": entry.get("id")}
            got = "neither" if value is None else f"{value!r:.80}"
            raise AnnotationError(
                f"read_coco_frames: expected {' or '.join(keys)} in every {what}, got {got}",
                file=self.path,
                key=keys[0],
                **place,
            )
        return value
