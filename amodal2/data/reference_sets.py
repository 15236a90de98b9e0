"""Reference sets of mask transfer: the complete objects of any dataset with masks.

Shapes: R references, S = 96 cells of the canvas on which shapes are compared, H W image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from amodal2.data.importers.cityscapes import why_incomplete
from amodal2.data.sized_image import read_sized_image
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM
from amodal2.structures.rle import RLE, decode_rle

_MOST_HIDDEN = 0.02
_CANVAS = 96
_SHORT = 32


@dataclass(frozen=True)
class Reference:
    """A complete object of a dataset.

    Attributes:
        item (dict): the dataset dict of its image, without annotations.
        mask (RLE): compressed.
        box (tuple[int, int, int, int]): of the mask, x0, y0, x1, y1 in pixels, the last outside.
        class_id (int): contiguous class index.
        source (str): file, image and annotation.
    """

    item: dict[str, Any]
    mask: RLE
    box: tuple[int, int, int, int]
    class_id: int
    source: str


def find_references(dicts: Iterable[dict[str, Any]], min_side: int) -> list[Reference]:
    """Collect the objects that are seen whole.

    Complete is an object that does not touch the border of the image, whose box has a short side of
    at least ``min_side`` pixels and 98 % of whose mask are one connected part, and of which at most
    2 % are hidden. Where only one kind of mask is known, other objects must instead take less than
    2 % of the 3 px band around it.

    Args:
        dicts: images of :mod:`amodal2.data.datasets.coco_amodal`, with visible or amodal masks.
        min_side: in pixels.

    Returns:
        list[Reference]: in the order of the dicts; crowds are left out.
    """
    return [found for item in dicts for found in _of_image(item, min_side)]


def _of_image(item: dict[str, Any], min_side: int) -> list[Reference]:
    records = [r for r in item.get("annotations", []) if not r.get("iscrowd", 0)]
    rles = [r.get(VISIBLE_SEGM) or r.get(AMODAL_SEGM) for r in records]
    rest = {key: value for key, value in item.items() if key != "annotations"}
    masks: list[np.ndarray] = []
    found = []
    for n, record in enumerate(records):
        rle, rate = rles[n], record.get("occlusion_rate")
        if rle is None or (rate is not None and rate > _MOST_HIDDEN):
            continue
        if rate is None and not masks:
            size = (item["height"], item["width"])
            masks = [np.zeros(size, bool) if one is None else decode_rle(one) for one in rles]
        mask = masks[n] if masks else decode_rle(rle)
        front = np.zeros_like(mask)
        for other in (m for i, m in enumerate(masks) if i != n and rate is None):
            front |= other
        if not mask.any() or why_incomplete(mask, front & ~mask, min_side) is not None:
            continue
        source = f"{item['file_name']}#{record['id']}"
        found.append(Reference(rest, rle, tight_box(mask), record["category_id"], source))
    return found


def crop_reference(reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    """Read a reference's image and cut its box out.

    Args:
        reference: a complete object.

    Returns:
        tuple: uint8 [h, w, 3] in RGB, and its mask, bool [h, w].

    Raises:
        AnnotationError: if the image has another size than its dict says.
        VideoError: if it cannot be read.
    """
    x0, y0, x1, y1 = reference.box
    image, mask = read_sized_image(reference.item), decode_rle(reference.mask)
    return image[y0:y1, x0:x1], mask[y0:y1, x0:x1]


def tight_box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 (the last ones outside) of a mask (bool [H, W]) with pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def shape_on_canvas(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Draw a mask with its box's centre in the middle and its box's short side at 32 cells.

    Args:
        mask (bool [H, W]): with pixels; sampled at cell centres. What lies farther than 1.5 short
            sides from the centre is cut off.

    Returns:
        bool [96 * 96]: the shape.
    """
    x0, y0, x1, y1 = tight_box(mask)
    unit = min(x1 - x0, y1 - y0) / _SHORT
    steps = (np.arange(_CANVAS) + 0.5 - _CANVAS / 2) * unit
    columns = np.floor((x0 + x1) / 2 + steps).astype(int)
    rows = np.floor((y0 + y1) / 2 + steps).astype(int)
    inside_x, inside_y = (columns >= x0) & (columns < x1), (rows >= y0) & (rows < y1)
    canvas = mask[np.clip(rows, y0, y1 - 1)[:, None], np.clip(columns, x0, x1 - 1)[None]]
    return (canvas & inside_y[:, None] & inside_x[None]).ravel()


class ReferenceShapes:
    """The shapes of references, to be compared with queries at equal scale and centre.

    Args:
        references (Sequence[Reference]): R complete objects.
    """

    def __init__(self, references: Sequence[Reference]) -> None:
        self.references = list(references)
        cells = _CANVAS * _CANVAS
        shapes = [np.packbits(shape_on_canvas(decode_rle(r.mask))) for r in self.references]
        self._packed = np.stack(shapes) if shapes else np.zeros((0, cells // 8), np.uint8)
        self._classes = np.array([r.class_id for r in self.references], np.int64)

    def of_class(self, class_id: int) -> npt.NDArray[np.int64]:
        """Return the numbers of the references of a class."""
        return np.flatnonzero(self._classes == class_id)

    def overlaps(
        self, mask: npt.NDArray[np.bool_], numbers: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return the IoU of a query's shape with those of references.

        Args:
            mask (bool [H, W]): amodal mask with pixels.
            numbers (int64 [N]): references.

        Returns:
            float64 [N]: 0 to 1.
        """
        shape = shape_on_canvas(mask)
        known = np.unpackbits(self._packed[numbers], axis=1).astype(bool)
        both = (known & shape).sum(axis=1)
        return both / np.maximum((known | shape).sum(axis=1), 1)
