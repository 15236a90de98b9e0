"""The rules by which amodal boxes (TAO-Amodal) become tracks of a video dataset.

The file has the layout of video datasets, with these differences. A track has ``amodal_bboxes``
(x, y, w, h in pixels, which may leave the frame) and no amodal masks; ``segmentations``,
``bboxes`` and ``areas`` are those of visible masks where there are any; ``visible_bboxes``,
``visibilities`` and ``out_of_frame`` are what the source says, per frame. A video has
``image_ids``, ``neg_category_ids`` and ``not_exhaustive_category_ids``, a category what LVIS says
of it (``frequency``). Ids of videos, images and categories are those of the source, since
predictions refer to them; tracks are numbered from 1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amodal2.structures.rle import RLE, rle_area, rle_box
from amodal2.utils.errors import AnnotationError
from amodal2.utils.files import write_json
from amodal2.utils.json_input import LARGEST_AREA, is_number

_LISTS = (
    "segmentations",
    "bboxes",
    "areas",
    "amodal_bboxes",
    "visible_bboxes",
    "visibilities",
    "out_of_frame",
)

Box = tuple[float, float, float, float]
"""x, y, w, h in pixels."""


@dataclass
class ObjectBox:
    """One object in one frame.

    Args:
        amodal: box of the whole object; may leave the frame.
        visible: box of what is seen of it, as the source gives it.
        mask: compressed RLE of what is seen of it.
        visibility: seen share, 0 to 1.
        out_of_frame: whether the source says that the object leaves the frame.
    """

    amodal: Box
    visible: Box | None = None
    mask: RLE | None = None
    visibility: float | None = None
    out_of_frame: bool | None = None


@dataclass
class BoxVideo:
    """One video as a reader finds it.

    Args:
        source_id: id in the source.
        height: H in pixels.
        width: W in pixels.
        file_names: T paths of the annotated frames, relative to the folder of the new JSON.
        image_ids: T ids of the frames in the source; empty if they have none.
        neg_category_ids: categories that are known to be absent.
        not_exhaustive_category_ids: categories of which not every object is annotated.
        tracks: track id of the source -> category id and, by frame index, the boxes.
    """

    source_id: int
    height: int
    width: int
    file_names: list[str]
    image_ids: list[int] = field(default_factory=list)
    neg_category_ids: list[int] = field(default_factory=list)
    not_exhaustive_category_ids: list[int] = field(default_factory=list)
    tracks: dict[int, tuple[int, dict[int, ObjectBox]]] = field(default_factory=dict)


class BoxImport:
    """Collects videos and writes the annotation file.

    Boxes without area, and masks that do not touch their amodal box (they belong to another track),
    are left out and counted in ``report``.

    Attributes:
        categories (dict[int, dict]): id -> entry with ``id`` and ``name``; set before videos are
            added.
        report (Counter): what was counted -> how often.
    """

    def __init__(self) -> None:
        self.report: Counter[str] = Counter()
        self.categories: dict[int, dict[str, Any]] = {}
        self._videos: list[dict[str, Any]] = []
        self._tracks: list[dict[str, Any]] = []

    def add(self, video: BoxVideo) -> None:
        """Take one video.

        Args:
            video: as a reader made it.

        Raises:
            AnnotationError: if a track is of a category that is not listed.
        """
        length = len(video.file_names)
        entry: dict[str, Any] = {
            "id": video.source_id,
            "width": video.width,
            "height": video.height,
            "length": length,
            "file_names": video.file_names,
            "neg_category_ids": video.neg_category_ids,
            "not_exhaustive_category_ids": video.not_exhaustive_category_ids,
        }
        if video.image_ids:
            entry["image_ids"] = video.image_ids
        self._videos.append(entry)
        self.report["videos"] += 1
        self.report["frames"] += length
        for track_id, (category, frames) in video.tracks.items():
            if category not in self.categories:
                raise AnnotationError(
                    f"import: expected a listed category id, got {category!r} (track {track_id})",
                    video_id=video.source_id,
                    key="category_id",
                )
            lists = self._track_lists(frames, video)
            if not any(lists["amodal_bboxes"]):
                self.report["tracks left out, without any box"] += 1
                continue
            self.report["tracks"] += 1
            head = {
                "id": len(self._tracks) + 1,
                "video_id": video.source_id,
                "category_id": category,
                "iscrowd": 0,
                "height": video.height,
                "width": video.width,
                "length": length,
                "source": {"track_id": track_id},
            }
            self._tracks.append(head | lists)

    def write(self, path: str | Path) -> None:
        """Write the annotation file, complete or not at all.

        Args:
            path: of the JSON file.

        Raises:
            AnnotationError: if no track was found.
        """
        if not self._tracks:
            raise AnnotationError("import: expected at least one track, got none", file=path)
        used = {track["category_id"] for track in self._tracks}
        self.report["categories with tracks"] = len(used)
        categories = [self.categories[key] for key in sorted(self.categories)]
        write_json(
            path,
            {"videos": self._videos, "categories": categories, "annotations": self._tracks},
        )

    def _track_lists(self, frames: dict[int, ObjectBox], video: BoxVideo) -> dict[str, list[Any]]:
        lists: dict[str, list[Any]] = {key: [None] * len(video.file_names) for key in _LISTS}
        for frame, found in sorted(frames.items()):
            x, y, width, height = found.amodal
            if width <= 0 or height <= 0:
                self.report["boxes left out, without area"] += 1
                continue
            self.report["boxes"] += 1
            beyond = x < 0 or y < 0 or x + width > video.width or y + height > video.height
            self.report["boxes beyond the frame"] += beyond
            lists["amodal_bboxes"][frame] = list(found.amodal)
            lists["visible_bboxes"][frame] = None if found.visible is None else list(found.visible)
            lists["visibilities"][frame] = found.visibility
            lists["out_of_frame"][frame] = found.out_of_frame
            if found.mask is None or not rle_area(found.mask):
                continue
            if not _touch(found.amodal, rle_box(found.mask)):
                self.report["masks left out, outside their amodal box"] += 1
                continue
            self.report["masks"] += 1
            lists["segmentations"][frame] = found.mask
            lists["bboxes"][frame] = list(rle_box(found.mask))
            lists["areas"][frame] = rle_area(found.mask)
        return lists


def read_box(value: Any, key: str, **place: Any) -> Box:
    """Check a box of a source.

    Args:
        value: what should be x, y, w, h.
        key: of the source.
        place: further keyword arguments of :class:`AnnotationError`.

    Returns:
        tuple: four floats.

    Raises:
        AnnotationError: if it is not four finite numbers, or of an absurd area.
    """
    numbers = isinstance(value, list) and len(value) == 4 and all(map(is_number, value))
    if not numbers or abs(value[2] * value[3]) > LARGEST_AREA:
        raise AnnotationError(
            "read_box: expected a box of 4 finite numbers x, y, w, h with an area of at most "
            f"{LARGEST_AREA:g}, got {value!r:.80}",
            key=key,
            **place,
        )
    x, y, width, height = map(float, value)
    return x, y, width, height


def _touch(one: Box, other: tuple[int, int, int, int]) -> bool:
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return across > 0 and down > 0
