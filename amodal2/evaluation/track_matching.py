"""Which predicted track shows which true object, by the visible masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from amodal2.evaluation.overlaps import measure_tubes
from amodal2.structures.mask_checks import VISIBLE_KEY

LEAST_IOU = 0.5


def match_visible(
    truth: Sequence[dict[str, Any]], predictions: Sequence[dict[str, Any]]
) -> dict[int, int]:
    """Pair true with predicted tracks of one video, the most similar pair first.

    Args:
        truth: records with "id" and "segmentations" (T masks or None).
        predictions: the same.

    Returns:
        dict: id of the true object -> position of the prediction, for pairs whose tubes of visible
        masks have an IoU of at least 0.5; each is in one pair at most, whatever its category.
    """
    if not truth or not predictions:
        return {}
    found, true = (measure_tubes([r[VISIBLE_KEY] for r in part]) for part in (predictions, truth))
    iou = found.overlaps(true, len(truth[0][VISIBLE_KEY])).tubes
    pairs: dict[int, int] = {}
    while iou.max() >= LEAST_IOU:
        row, column = np.unravel_index(int(iou.argmax()), iou.shape)
        pairs[truth[int(column)]["id"]] = int(row)
        iou[row], iou[:, column] = 0.0, 0.0
    return pairs
