"""The rules by which annotations of any origin become tracks of a video dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from amodal2.structures.rle import RLE, rle_area, rle_box
from amodal2.utils.errors import AnnotationError
from amodal2.utils.files import write_json
from amodal2.utils.json_input import is_text

_LISTS = (
    "segmentations",
    "bboxes",
    "areas",
    "amodal_segmentations",
    "amodal_bboxes",
    "amodal_areas",
    "occlusion_rates",
)


@dataclass
class ObjectMasks:
    """What an annotator drew for one object in one frame.

    Args:
        visible: compressed RLE; None if nothing was drawn.
        amodal: compressed RLE; None if nothing was drawn.
    """

    visible: RLE | None = None
    amodal: RLE | None = None


@dataclass
class SourceVideo:
    """One video as a reader finds it.

    Args:
        name: unique in the dataset; names the video in messages.
        height: H of the frames in pixels.
        width: W of the frames in pixels.
        file_names: T paths of the frames, relative to the folder of the JSON that will be written.
        tracks: key of an object -> its category's name and, by frame index, its masks.
    """

    name: str
    height: int
    width: int
    file_names: list[str]
    tracks: dict[Hashable, tuple[str, dict[int, ObjectMasks]]] = field(default_factory=dict)

    def masks(self, key: Hashable, category: str, frame: int) -> ObjectMasks:
        """Return the masks of an object in a frame, empty at first.

        Args:
            key: of the object.
            category: name of its category.
            frame: index from 0.

        Raises:
            AnnotationError: if the object has had another category in this video.
        """
        known, frames = self.tracks.setdefault(key, (category, {}))
        if known != category:
            raise AnnotationError(
                f"import: expected one category for object {key!r} of video {self.name!r}, got "
                f"{known!r} and {category!r} (frame {frame})"
            )
        return frames.setdefault(frame, ObjectMasks())


class VideoImport:
    """Collects videos, applies the rules of the schema and writes the annotation file.

    An object without an amodal mask in a frame takes its visible mask there (nothing hides it),
    visible pixels outside the amodal mask are cut off, amodal masks before the first visible frame
    and tracks that are never visible are left out. Everything of that kind is counted in
    ``report``.

    Args:
        categories: names in the order of their ids, from 1; None takes the names found, sorted.
        visible_only: the source has no amodal masks at all, so the file will have none either.
    """

    def __init__(self, categories: list[str] | None = None, visible_only: bool = False) -> None:
        self.visible_only = visible_only
        self.report: Counter[str] = Counter()
        self._names = categories
        self._videos: list[dict[str, Any]] = []
        self._tracks: list[tuple[str, dict[str, Any]]] = []
        self._seen: set[str] = set()

    def add(self, video: SourceVideo) -> None:
        """Take one video.

        Args:
            video: as a reader made it.

        Raises:
            AnnotationError: if the name occurs twice or a category is not among those given.
        """
        if video.name in self._seen:
            raise AnnotationError(f"import: expected video names once, got {video.name!r} twice")
        self._seen.add(video.name)
        video_id = len(self._videos) + 1
        length = len(video.file_names)
        self._videos.append(
            {
                "id": video_id,
                "width": video.width,
                "height": video.height,
                "length": length,
                "file_names": list(video.file_names),
            }
        )
        self.report["videos"] += 1
        self.report["frames"] += length
        for category, frames in video.tracks.values():
            if not is_text(category):
                raise AnnotationError(
                    f"import: expected the name of a category, got {category!r:.80} in video "
                    f"{video.name!r:.80}"
                )
            if self._names is not None and category not in self._names:
                raise AnnotationError(
                    f"import: expected one of the categories {self._names}, got {category!r} in "
                    f"video {video.name!r}"
                )
            lists = self._track_lists(frames, length)
            if lists is None:
                self.report["tracks left out, never visible"] += 1
                continue
            self.report["tracks"] += 1
            head = {"video_id": video_id, "iscrowd": 0, "height": video.height}
            self._tracks.append((category, head | {"width": video.width, "length": length} | lists))

    def write(self, path: str | Path) -> None:
        """Write the annotation file, complete or not at all.

        Args:
            path: of the JSON file.

        Raises:
            AnnotationError: if no video or no track was found.
        """
        if not self._videos or not self._tracks:
            what = "track" if self._videos else "video"
            raise AnnotationError(f"import: expected at least one {what}, got none", file=path)
        names = self._names or sorted({category for category, _ in self._tracks})
        ids = {name: index for index, name in enumerate(names, start=1)}
        write_json(
            path,
            {
                "videos": self._videos,
                "categories": [{"id": ids[name], "name": name} for name in names],
                "annotations": [
                    {"id": index, "category_id": ids[category], **record}
                    for index, (category, record) in enumerate(self._tracks, start=1)
                ],
            },
        )

    def _track_lists(self, frames: dict[int, ObjectMasks], length: int) -> dict[str, Any] | None:
        """Make the per-frame lists of a track; None if it is never visible."""
        lists: dict[str, list[Any]] = {key: [None] * length for key in _LISTS}
        seen = False
        for frame in sorted(frames):
            visible, amodal = self._apply_rules(frames[frame])
            seen = seen or visible is not None
            if not seen:
                self.report["amodal masks left out, before the first visible frame"] += (
                    amodal is not None
                )
                continue
            for prefix, mask in (("", visible), ("amodal_", amodal)):
                if mask is not None:
                    lists[prefix + "segmentations"][frame] = mask
                    lists[prefix + "bboxes"][frame] = list(rle_box(mask))
                    lists[prefix + "areas"][frame] = rle_area(mask)
            if amodal is not None:
                part = 0 if visible is None else rle_area(visible)
                lists["occlusion_rates"][frame] = 1 - part / rle_area(amodal)
        if self.visible_only:
            lists = {key: lists[key] for key in _LISTS[:3]}
        return lists if seen else None

    def _apply_rules(self, masks: ObjectMasks) -> tuple[RLE | None, RLE | None]:
        """Return visible and amodal mask of one frame, None where empty."""
        visible = masks.visible if masks.visible and rle_area(masks.visible) else None
        amodal = masks.amodal if masks.amodal and rle_area(masks.amodal) else None
        if amodal is None:
            if visible is not None and not self.visible_only:
                self.report["frames of tracks with the visible mask as the amodal one"] += 1
            return visible, None if self.visible_only else visible
        if visible is None:
            return None, amodal
        common = intersect(visible, amodal)
        lost = rle_area(visible) - rle_area(common)
        if lost:
            self.report["visible pixels cut off outside the amodal mask"] += lost
            self.report["frames of tracks with visible pixels cut off"] += 1
        return common if rle_area(common) else None, amodal


def unite(first: RLE | None, second: RLE) -> RLE:
    """Return the union of two masks of one size.

    Args:
        first: None counts as empty.
        second: a compressed RLE.
    """
    return second if first is None else _merge(first, second, False)


def intersect(first: RLE, second: RLE) -> RLE:
    """Return the common pixels of two masks of one size.

    Args:
        first: a compressed RLE.
        second: a compressed RLE.
    """
    return _merge(first, second, True)


def _merge(first: RLE, second: RLE, common: bool) -> RLE:
    merged = coco_mask.merge([first, second], intersect=common)
    return {"size": [int(n) for n in merged["size"]], "counts": merged["counts"].decode("ascii")}
