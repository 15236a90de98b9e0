"""The metrics of mask transfer (Zhang, Tables 3 to 6): votes, scores and transferred masks.

Shapes: P positive pairs, Q pairs, B queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from amodal2.evaluation.image_ap import ALL_AREAS, ImageTask, Rules
from amodal2.evaluation.image_predictions import Record, check_image_predictions
from amodal2.evaluation.image_shapes import Region
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM, ImageDataset
from amodal2.structures.rle import decode_rle

TAU = 0.1
"""Relative error of the centre along each axis up to which a vote is good."""
SHOWN_THRESHOLDS = (0.5, 0.65, 0.75, 0.9)
"""IoU thresholds of Table 6."""
_BOX_IOU = 0.5


@dataclass(frozen=True)
class PairMetrics:
    """Votes, scores and scales over pairs; NaN where there is nothing to average.

    Attributes:
        delta (float): mean of (|Δx| / W + |Δy| / H) / 2; its least value over epochs is mindelta.
        delta_euclidean (float): mean of the root of (Δx / W)² + (Δy / H)².
        rgood (float): share of votes with both errors of at most 0.1.
        pos_acc (float): share of positive pairs that are scored above one half.
        neg_acc (float): share of negative pairs that are not.
        acc_all (float): share of all pairs that are scored rightly.
        scale_error (float): mean |log(ŝ / s)|.
        scale_good (float): share of scales within 10 %.
        pairs (int): Q.
    """

    delta: float
    delta_euclidean: float
    rgood: float
    pos_acc: float
    neg_acc: float
    acc_all: float
    scale_error: float
    scale_good: float
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return asdict(self)


def measure_pairs(
    errors: npt.NDArray[np.floating[Any]],
    logits: npt.NDArray[np.floating[Any]],
    positive: npt.NDArray[np.bool_],
    log_scales: npt.NDArray[np.floating[Any]],
) -> PairMetrics:
    """Average over pairs.

    Args:
        errors (float [P, 2]): |Δx| / W and |Δy| / H of the votes of positive pairs; W and H are
            those of the amodal box.
        logits (float [Q]): scores of all pairs; above 0 means alike.
        positive (bool [Q]): which pairs are positive.
        log_scales (float [B]): log(ŝ / s) of the queries.

    Returns:
        PairMetrics: means.
    """
    right = (logits > 0) == positive
    return PairMetrics(
        _mean(errors.mean(axis=1)),
        _mean(np.hypot(errors[:, 0], errors[:, 1])),
        _mean((errors <= TAU).all(axis=1)),
        _mean(right[positive]),
        _mean(right[~positive]),
        _mean(right),
        _mean(np.abs(log_scales)),
        _mean(np.less_equal(np.abs(np.expm1(log_scales)), TAU)),
        len(logits),
    )


@dataclass(frozen=True)
class MaskMetrics:
    """Amodal masks of an image dataset.

    Attributes:
        miou_all (float): mean IoU over all objects; one without a prediction counts 0.
        miou_matched (float): over the objects that have one.
        miou_invisible (float): mean IoU of the hidden parts over the objects that have one.
        matched (int): objects with a prediction.
        objects (int): all objects.
        ap (dict[float, float]): IoU threshold -> AP, -1 where undefined.
    """

    miou_all: float
    miou_matched: float
    miou_invisible: float
    matched: int
    objects: int
    ap: dict[float, float] = field(default_factory=dict)

    @property
    def mean_ap(self) -> float:
        """AP averaged over the thresholds."""
        return _mean(np.array(list(self.ap.values())))

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name; AP in the form of Table 6."""
        found = {key: value for key, value in asdict(self).items() if key != "ap"}
        shown = {f"AP{round(100 * t)}": self.ap[t] for t in SHOWN_THRESHOLDS}
        return found | shown | {"AP": self.mean_ap}


def measure_masks(dataset: ImageDataset, predictions: Sequence[Record]) -> MaskMetrics:
    """Compare predicted amodal masks with the true ones.

    An object's prediction is the one of its category with the best score among those whose box
    overlaps its amodal box by at least one half and that no object before it has taken; hidden
    parts are what lies outside the true visible mask.

    Args:
        dataset: with amodal masks.
        predictions: records with amodal masks, see ``image_predictions``.

    Returns:
        MaskMetrics: NaN and -1 where there is nothing to average.

    Raises:
        AnnotationError: if a prediction is invalid.
    """
    records, _ = check_image_predictions(predictions, dataset)
    task = ImageTask(dataset, records, Region("amodal"), Rules(area_ranges=ALL_AREAS))
    of_cell: dict[tuple[int, int], list[Record]] = {}
    for record in sorted(records, key=lambda r: -r["score"]):
        of_cell.setdefault((record["image_id"], record["category_id"]), []).append(record)
    whole, hidden = [], []
    objects = [o for o in dataset.annotations if not o["iscrowd"]]
    for truth in objects:
        candidates = of_cell.get((truth["image_id"], truth["category_id"]), [])
        found = _take(candidates, truth)
        if found is None:
            continue
        whole.append(_iou(decode_rle(found[AMODAL_SEGM]), decode_rle(truth[AMODAL_SEGM])))
        rest = _hidden_iou(found, truth)
        if rest is not None:
            hidden.append(rest)
    return MaskMetrics(
        sum(whole) / len(objects) if objects else float("nan"),
        _mean(np.array(whole)),
        _mean(np.array(hidden)),
        len(whole),
        len(objects),
        task.score_thresholds(),
    )


def _take(candidates: list[Record], truth: Record) -> Record | None:
    """Take the first candidate whose amodal box overlaps enough, out of the list."""
    for place, record in enumerate(candidates):
        if record.get(AMODAL_SEGM) is None:
            continue
        box = coco_mask.toBbox(record[AMODAL_SEGM])
        if coco_mask.iou(box[None], np.array([truth["amodal_bbox"]], float), [0])[0, 0] >= _BOX_IOU:
            return candidates.pop(place)
    return None


def _hidden_iou(found: Record, truth: Record) -> float | None:
    """Return the IoU of the hidden parts, None if nothing of the object is hidden."""
    if truth.get(VISIBLE_SEGM) is None:
        return None
    seen = decode_rle(truth[VISIBLE_SEGM])
    hidden = decode_rle(truth[AMODAL_SEGM]) & ~seen
    return _iou(decode_rle(found[AMODAL_SEGM]) & ~seen, hidden) if hidden.any() else None


def _iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def _mean(values: Any) -> float:
    """Return the mean of an array, NaN if it is empty."""
    return float(np.mean(values)) if len(values) else float("nan")
