"""The rules by which annotations of any origin become objects of an image dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amodal2.data.importers.video_import import intersect
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM
from amodal2.structures.rle import RLE, rle_area, rle_box
from amodal2.utils.errors import AnnotationError
from amodal2.utils.files import write_json
from amodal2.utils.json_input import is_number


@dataclass
class SourceObject:
    """One object as a reader finds it.

    Args:
        category: id of its category.
        amodal: compressed RLE of the whole object.
        visible: compressed RLE of what is seen of it, None for an object hidden in full.
        source: further ids of the source, written as they are; "id" is the one in the source.
        order: place in the depth order of its cluster of overlapping objects, {"cluster", "rank"},
            rank 0 is nearest; None if unknown.
        crowd: whether its masks are not those of one known object, so that it is ignored.
    """

    category: int
    amodal: RLE
    visible: RLE | None
    source: dict[str, Any]
    order: dict[str, int] | None = None
    crowd: bool = False


@dataclass
class SourceImage:
    """One image as a reader finds it.

    Args:
        source_id: id in the source.
        file_name: path of the image, relative to the dataset's folder of images.
        height: H in pixels.
        width: W in pixels.
        objects: its objects.
        pairs: positions (front, back) in ``objects``; the first hides a part of the second.
    """

    source_id: int
    file_name: str
    height: int
    width: int
    objects: list[SourceObject] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)


class ImageImport:
    """Collects images, applies the rules of the schema and writes the annotation file.

    Masks are stored as RLEs. Visible pixels outside the amodal mask are cut off; objects without
    any amodal pixel are left out; objects hidden in full are kept, with an empty visible box and
    the occlusion rate 1. Everything of that kind is counted in ``report``.

    Attributes:
        categories (dict[int, str]): id -> name.
        report (Counter): what was counted -> how often.

    Args:
        categories: id -> name.
    """

    def __init__(self, categories: dict[int, str]) -> None:
        self.report: Counter[str] = Counter()
        self.categories = categories
        self._images: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []

    def add(self, image: SourceImage) -> None:
        """Take one image.

        Args:
            image: as a reader made it.

        Raises:
            AnnotationError: if an object is of a category that is not listed, or has an id of the
                source that cannot be written.
        """
        image_id = len(self._images) + 1
        ids: dict[int, int] = {}
        for index, found in enumerate(image.objects):
            if found.category not in self.categories:
                raise AnnotationError(
                    f"import: expected one of the category ids {sorted(self.categories)}, got "
                    f"{found.category}",
                    image_id=image.source_id,
                    annotation_id=found.source.get("id"),
                    key="category_id",
                )
            for key, value in found.source.items():
                if not (value is None or isinstance(value, bool | str) or is_number(value)):
                    raise AnnotationError(
                        f"import: expected a number or text, got {value!r:.80}",
                        image_id=image.source_id,
                        key=key,
                    )
            record = self._record(found)
            if record is None:
                self.report["objects left out, without any amodal pixel"] += 1
                continue
            ids[index] = len(self._objects) + 1
            self._objects.append({"id": ids[index], "image_id": image_id, **record})
        self.report["images"] += 1
        self.report["objects"] += len(ids)
        self.report["images without objects"] += not ids
        self._images.append(
            {
                "id": image_id,
                "file_name": image.file_name,
                "height": image.height,
                "width": image.width,
                "source": {"id": image.source_id},
                "occlusion_pairs": [
                    [ids[front], ids[back]]
                    for front, back in image.pairs
                    if front in ids and back in ids
                ],
            }
        )

    def write(self, path: str | Path, *, info: dict[str, Any] | None = None) -> None:
        """Write the annotation file, complete or not at all.

        Args:
            path: of the JSON file.
            info: entry of that name, what the file was made from; None leaves it out.

        Raises:
            AnnotationError: if no object was found.
        """
        if not self._objects:
            raise AnnotationError("import: expected at least one object, got none", file=path)
        categories = [{"id": key, "name": self.categories[key]} for key in sorted(self.categories)]
        content = {"images": self._images, "categories": categories, "annotations": self._objects}
        write_json(path, content if info is None else {"info": info, **content})

    def _record(self, found: SourceObject) -> dict[str, Any] | None:
        amodal, visible = found.amodal, found.visible
        area = rle_area(amodal)
        if not area:
            return None
        if visible is not None:
            common = intersect(visible, amodal)
            lost = rle_area(visible) - rle_area(common)
            self.report["visible pixels cut off outside the amodal mask"] += lost
            self.report["objects with visible pixels cut off"] += lost > 0
            visible = common if rle_area(common) else None
        self.report["objects hidden in full"] += visible is None
        seen = 0 if visible is None else rle_area(visible)
        box = list(rle_box(amodal))
        record = {
            "category_id": found.category,
            "iscrowd": int(found.crowd),
            AMODAL_SEGM: amodal,
            VISIBLE_SEGM: visible,
            "amodal_bbox": box,
            "visible_bbox": None if visible is None else list(rle_box(visible)),
            "amodal_area": area,
            "visible_area": seen,
            "occlusion_rate": 1 - seen / area,
            "segmentation": amodal,
            "bbox": box,
            "area": area,
            "source": found.source,
        }
        return record if found.order is None else record | {"order": found.order}
