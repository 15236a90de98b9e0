"""Composition by copy and paste: complete objects laid over an image and over one another.

Since the pasted objects are seen whole in their own images, their amodal masks are exact, and so
are the visible masks of everything that they cover. Shapes: H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from amodal2.data.reference_sets import (
    Reference,
    crop_reference,
    find_references,
    tight_box,
)
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM
from amodal2.structures.rle import decode_rle

_TRIES = 8
_LARGEST = 0.9
_NEAR = 0.8
_SPREAD = 0.35


@dataclass(frozen=True)
class Layer:
    """An object of a composition.

    Attributes:
        amodal (bool [H, W]): the whole object inside the frame.
        visible (bool [H, W]): what is seen of it.
        class_id (int): contiguous class index.
        source (str): where it comes from.
        exact (bool): whether nothing but later layers may hide a part of it.
        crowd (bool): whether its amodal mask is not known, so that it must be ignored.
    """

    amodal: npt.NDArray[np.bool_]
    visible: npt.NDArray[np.bool_]
    class_id: int
    source: str
    exact: bool = True
    crowd: bool = False


def layers_of_image(item: dict[str, Any]) -> list[Layer]:
    """Turn the annotations of an image into layers.

    Objects with both kinds of masks keep them. Where only one kind is known, complete objects
    (see ``find_references``, any size) are kept with amodal = visible, and all others are crowds.

    Args:
        item: a dict of :mod:`amodal2.data.datasets.coco_amodal`.

    Returns:
        list[Layer]: of all objects with a visible pixel, in the order of the annotations.
    """
    complete = {reference.source for reference in find_references([item], 1)}
    layers = []
    for record in item.get("annotations", []):
        both = AMODAL_SEGM in record and VISIBLE_SEGM in record
        rle = record[VISIBLE_SEGM] if both else record.get(VISIBLE_SEGM) or record.get(AMODAL_SEGM)
        if not rle:
            continue
        source = f"{item['file_name']}#{record['id']}"
        seen = decode_rle(rle)
        whole = decode_rle(record[AMODAL_SEGM]) if both else seen
        crowd = bool(record.get("iscrowd", 0)) or not (both or source in complete)
        class_id = record["category_id"]
        layers.append(Layer(whole, seen, class_id, source, source in complete, crowd))
    return layers


class Composer:
    """Pastes complete objects into images.

    Args:
        donors: complete objects, at least one.
        count: smallest and largest number of pasted objects.
        scale: smallest and largest factor on a donor's size.
        flip: mirror half of the donors.
        most_hidden: share of an object up to which it may be hidden; a place where more would be is
            not taken, and after eight such places the donor is left out.

    Raises:
        ValueError: if there is no donor, or a range is not rising from a positive number.
    """

    def __init__(
        self,
        donors: Sequence[Reference],
        *,
        count: tuple[int, int] = (1, 4),
        scale: tuple[float, float] = (0.6, 1.4),
        flip: bool = True,
        most_hidden: float = 0.9,
    ) -> None:
        if not donors:
            raise ValueError(
                "Composer: expected complete objects to paste, got none; lower the least side"
            )
        if not 0 < count[0] <= count[1] or not 0 < scale[0] <= scale[1]:
            raise ValueError(
                f"Composer: expected rising ranges above 0, got counts {count} and scales {scale}"
            )
        if not 0 <= most_hidden < 1:
            raise ValueError(f"Composer: expected most_hidden in 0..1, got {most_hidden}")
        self.donors = list(donors)
        self.count, self.scale, self.flip, self.most_hidden = count, scale, flip, most_hidden

    def __call__(
        self, rng: np.random.Generator, image: npt.NDArray[np.uint8], layers: Sequence[Layer]
    ) -> tuple[npt.NDArray[np.uint8], list[Layer]]:
        """Paste objects, each before all others.

        Args:
            rng (np.random.Generator): the only source of randomness.
            image (uint8 [H, W, 3]): RGB; not changed.
            layers: objects of the image.

        Returns:
            tuple: the picture, and its layers: those given, then the pasted ones, nearest last.
        """
        picture, found = image.copy(), list(layers)
        for _ in range(int(rng.integers(self.count[0], self.count[1] + 1))):
            donor = self.donors[int(rng.integers(len(self.donors)))]
            crop, mask = self._draw(rng, donor, (image.shape[0], image.shape[1]))
            for _ in range(_TRIES):
                x, y = self._place(rng, found, mask, (image.shape[0], image.shape[1]))
                whole = _mask_at(mask, x, y, (image.shape[0], image.shape[1]))
                covered = [replace(one, visible=one.visible & ~whole) for one in found]
                if whole.any() and self._leaves_enough(found, covered):
                    _paste(picture, crop, mask, x, y)
                    found = [*covered, Layer(whole, whole, donor.class_id, donor.source)]
                    break
        return picture, found

    def _draw(
        self, rng: np.random.Generator, donor: Reference, size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read a donor, resize it (at most to 90 % of the image) and mirror it."""
        crop, mask = crop_reference(donor)
        height, width = mask.shape
        factor = float(rng.uniform(*self.scale))
        factor = min(factor, _LARGEST * size[0] / height, _LARGEST * size[1] / width)
        shape = (max(1, round(width * factor)), max(1, round(height * factor)))
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        crop = cv2.resize(np.ascontiguousarray(crop), shape, interpolation=way)
        soft = cv2.resize(mask.astype(np.float32), shape, interpolation=way)
        mirrored = self.flip and bool(rng.random() < 0.5)
        whole = soft >= min(0.5, float(soft.max()))
        return (crop[:, ::-1], whole[:, ::-1]) if mirrored else (crop, whole)

    def _place(
        self,
        rng: np.random.Generator,
        layers: Sequence[Layer],
        mask: npt.NDArray[np.bool_],
        size: tuple[int, int],
    ) -> tuple[int, int]:
        """Draw the corner of a donor, mostly near an object; a fourth of it stays inside."""
        targets = [layer for layer in layers if not layer.crowd and layer.visible.any()]
        centre = rng.uniform(0, 1, 2) * (size[1], size[0])
        if targets and rng.random() < _NEAR:
            x0, y0, x1, y1 = tight_box(targets[int(rng.integers(len(targets)))].visible)
            spread = rng.normal(0.0, _SPREAD, 2) * (x1 - x0, y1 - y0)
            centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + spread
        x, y = (round(c - length / 2) for c, length in zip(centre, mask.shape[::-1], strict=True))
        x = int(np.clip(x, -mask.shape[1] // 4, size[1] - 3 * mask.shape[1] // 4))
        y = int(np.clip(y, -mask.shape[0] // 4, size[0] - 3 * mask.shape[0] // 4))
        return x, y

    def _leaves_enough(self, before: Sequence[Layer], after: Sequence[Layer]) -> bool:
        """Tell whether no object that loses pixels is hidden too much."""
        least = 1 - self.most_hidden
        for one, rest in zip(before, after, strict=True):
            shown = rest.visible.sum()
            loses = shown < one.visible.sum() and not one.crowd
            if loses and (shown == 0 or shown < least * one.amodal.sum()):
                return False
        return True


def _common(
    size: tuple[int, ...], shape: tuple[int, ...], x: int, y: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the common part of an image and a crop at (x, y), in both of them."""
    y0, y1, x0, x1 = max(0, y), min(size[0], y + shape[0]), max(0, x), min(size[1], x + shape[1])
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def _mask_at(
    mask: npt.NDArray[np.bool_], x: int, y: int, size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Return a mask (bool [H, W]) whose corner is moved to (x, y)."""
    whole = np.zeros(size, bool)
    part, own = _common(size, mask.shape, x, y)
    whole[part] = mask[own]
    return whole


def _paste(
    picture: npt.NDArray[np.uint8],
    crop: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.bool_],
    x: int,
    y: int,
) -> None:
    """Lay a crop over a picture, in place, softly at the outline."""
    part, own = _common(picture.shape, mask.shape, x, y)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8) * mask
    alpha = np.clip(1.5 * soft[own], 0.0, 1.0)[..., None]
    blended = picture[part] * (1 - alpha) + crop[own] * alpha
    picture[part] = np.where(mask[own][..., None], np.round(blended), picture[part])
