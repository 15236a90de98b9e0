"""Cars of Cityscapes that are seen whole: the reference set of mask transfer.

The expected tree is the official one::

    ROOT/gtFine/<split>/<city>/<image>_gtFine_instanceIds.png
    ROOT/leftImg8bit/<split>/<city>/<image>_leftImg8bit.png

A pixel of an instance has the value label id * 1000 + number; values below 1000 are labels without
instances, those of things among them groups that were not told apart. Zhang's "Amodal Instance
Segmentation" does not say how complete cars were chosen; the rules here are this project's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from amodal2.data.importers.image_import import SourceImage, SourceObject
from amodal2.structures.rle import encode_mask
from amodal2.utils.errors import AnnotationError

CATEGORIES = {1: "car"}
CAR = 26
"""Label id of cars."""
SHORT_SIDE = 64
"""Least short side of the box in pixels."""
BAND = 3
"""Width in pixels of the band around an instance in which things in front are looked for."""
MOST_SHARED = 0.02
"""Share of the band below which other things may take part in it."""
MAIN_PART = 0.98
"""Least share of the mask that is one connected part."""

_EGO_VEHICLE = 1
_THINGS = range(24, 34)
_STANDING = (17, 18, 19, 20)  # pole, polegroup, traffic light, traffic sign
_SUFFIX = "_gtFine_instanceIds.png"


def read_complete_cars(
    root: str | Path, split: str, report: Counter[str]
) -> tuple[dict[int, str], Iterator[SourceImage]]:
    """Read the images of one split that have complete cars.

    A car is complete if it does not touch the border of the image, its box has a short side of at
    least 64 px, other instances, poles, signs and the own bonnet take less than 2 % of the 3 px
    band around it, and 98 % of its mask are one connected part. Its amodal mask is the visible one.

    Args:
        root: folder of the dataset.
        split: "train" or "val"; the annotations of the test set are not public.
        report: receives the number of cars left out, by reason, and of images without complete
            ones.

    Returns:
        tuple: category id -> name, and the images in the order of their paths.

    Raises:
        FileNotFoundError: if the split has no annotations.
        AnnotationError: while iterating, naming a file that is no image of ids.
    """
    folder = Path(root) / "gtFine" / split
    files = sorted(folder.glob(f"*/*{_SUFFIX}"))
    if not files:
        raise FileNotFoundError(
            f"read_complete_cars: expected {folder}/<city>/*{_SUFFIX}, got none"
        )
    return CATEGORIES, _read_images(files, split, report)


def _read_images(files: list[Path], split: str, report: Counter[str]) -> Iterator[SourceImage]:
    for number, file in enumerate(files, start=1):
        ids = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if ids is None or ids.ndim != 2 or ids.dtype != np.uint16:
            got = "none" if ids is None else f"{ids.dtype} of shape {ids.shape}"
            raise AnnotationError(
                f"read_complete_cars: expected a 16-bit image of ids [H, W], got {got}", file=file
            )
        name = file.name.removesuffix(_SUFFIX) + "_leftImg8bit.png"
        path = Path("leftImg8bit", split, file.parent.name, name).as_posix()
        image = SourceImage(number, path, *ids.shape)
        values = np.unique(ids)
        report["car groups left out"] += int(CAR in values)
        front = _may_be_in_front(ids)
        for value in values[values // 1000 == CAR].tolist():
            mask = ids == value
            reason = why_incomplete(mask, front & ~mask)
            if reason is not None:
                report[f"cars left out, {reason}"] += 1
                continue
            rle = encode_mask(mask)
            image.objects.append(SourceObject(1, rle, rle, {"id": int(value)}))
        if image.objects:
            yield image
        else:
            report["images left out, without a complete car"] += 1


def why_incomplete(mask: np.ndarray, front: np.ndarray, short_side: int = SHORT_SIDE) -> str | None:
    """Say why an instance may not be seen whole.

    Args:
        mask: bool [H, W], not empty.
        front: bool [H, W], pixels of other things that may lie in front of it.
        short_side: least short side of its box in pixels.

    Returns:
        str: the first rule that it breaks; None if it is complete.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = rows[0], rows[-1], columns[0], columns[-1]
    height, width = mask.shape
    if y0 == 0 or x0 == 0 or y1 == height - 1 or x1 == width - 1:
        return "at the border of the image"
    if min(y1 - y0, x1 - x0) + 1 < short_side:
        return f"short side below {short_side} px"
    part = np.s_[max(0, y0 - BAND) : y1 + BAND + 1, max(0, x0 - BAND) : x1 + BAND + 1]
    own = mask[part].astype(np.uint8)
    kernel = np.ones((2 * BAND + 1, 2 * BAND + 1), np.uint8)
    band = (cv2.dilate(own, kernel) > 0) & (own == 0)
    if np.count_nonzero(band & front[part]) >= MOST_SHARED * np.count_nonzero(band):
        return "other things at its contour"
    _, _, statistics, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
    if statistics[1:, cv2.CC_STAT_AREA].max() < MAIN_PART * own.sum():
        return "in several parts"
    return None


def _may_be_in_front(ids: np.ndarray) -> np.ndarray:
    """Mark the pixels of all things, bool [H, W]."""
    labels = np.where(ids >= 1000, ids // 1000, ids)
    return np.isin(labels, [_EGO_VEHICLE, *_STANDING, *_THINGS])
