"""Score predicted video tracks: AP and AR over tubes, HOTA, CLEAR and identity metrics.

Visible masks, amodal masks and amodal boxes are compared each with their own kind. Amodal scoring
takes ``amodal_score`` where a prediction has one. True tracks without a single mask of a kind are
left out for that kind.

Rows by occlusion (A2VIS, Table 9): the occlusion of a track is the mean of its occlusion rates over
the frames with an amodal mask. For AP, tracks outside the bin are ignored, so unmatched predictions
count as false positives in both bins. For tracking metrics they are taken out together with the
predictions that show them (:func:`amodal2.evaluation.tracking_counts.drop_tracks`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from amodal2.evaluation.box_tubes import box_tubes
from amodal2.evaluation.overlaps import measure_tubes
from amodal2.evaluation.predictions import MASK_KEYS, Record, check_predictions
from amodal2.evaluation.report import AP_PROTOCOL, VideoReport
from amodal2.evaluation.tracking import TrackingMetrics
from amodal2.evaluation.tube_ap import MAX_DETECTIONS, TubeAP
from amodal2.evaluation.video_cells import TrackPairing
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

METRICS = ("ap", "hota")
"""What can be computed: AP and AR; HOTA, CLEAR and identity metrics."""

AREA_KEYS = {VISIBLE_KEY: "areas", AMODAL_KEY: "amodal_areas"}
BOX_KEY = "amodal_bboxes"
OCCLUSION_BINS = {"lt50": (0.0, 0.5), "gt50": (np.nextafter(0.5, 1.0), 1.0)}
"""Bin -> lowest and highest mean occlusion rate of a track, both included."""


@dataclass(frozen=True)
class _Job:
    """One kind of row: its name, where its masks come from, and whether boxes are compared."""

    name: str
    predicted_key: str
    true_key: str
    boxes: bool = False


def evaluate_video_tracks(
    dataset: VideoDataset,
    predictions: Iterable[Any],
    *,
    file: str | Path | None = None,
    metrics: Collection[str] = ("ap",),
    class_agnostic: bool = False,
    occlusion_bins: bool = False,
    visible_as_amodal: bool = False,
    boxes: bool = False,
    score_threshold: float | None = None,
    details: bool = True,
) -> VideoReport:
    """Score predicted tracks.

    Rows of the report: ``visible`` and ``amodal``, each if it was predicted and the ground truth
    has it (without any predictions: both that the ground truth has, with all scores 0), and on
    demand the rows below.

    Args:
        dataset: the ground truth.
        predictions: records, see :func:`amodal2.evaluation.predictions.check_predictions`.
        file: where the predictions come from, for the messages.
        metrics: some of ``METRICS``.
        class_agnostic: add ``<kind>_class_agnostic``: all classes count as one.
        occlusion_bins: add ``<kind>_lt50`` and ``<kind>_gt50``: tracks hidden by at most, or more
            than, one half on average; AP for masks only.
        visible_as_amodal: add ``visible_as_amodal``: what the predicted visible masks score as
            amodal predictions, the least that an amodal head must beat.
        boxes: add ``amodal_box``: amodal boxes, those in ``amodal_bboxes`` (in and outside the
            frame) or else the tight ones of the masks.
        score_threshold: lowest score of the predictions that count for tracking metrics.
        details: keep what the numbers come from (``report.samplers``: the IoU of all pairs) for
            comparisons and charts.

    Returns:
        VideoReport: fractions, counts and notes.

    Raises:
        ValueError: if a metric is unknown.
        AnnotationError: if a prediction is invalid.
    """
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown or not metrics:
        raise ValueError(
            f"evaluate_video_tracks: expected metrics among {list(METRICS)}, got {list(metrics)}"
        )
    records, notes = check_predictions(predictions, dataset, file=file)
    report = VideoReport({}, _count(dataset, records), notes)
    for job in _jobs(dataset, records, visible_as_amodal, boxes):
        pairing = _pair(dataset, records, job, file)
        empty = len(dataset.annotations) - len(pairing.tracks)
        if empty:
            report.notes.append(f"{empty} true tracks without any mask left out of {job.name}")
        parts = _occlusion_parts(pairing.tracks) if occlusion_bins else {}
        if job.name == "visible_as_amodal":
            parts = {}
        _score(report, job, pairing, metrics, parts, score_threshold)
        if class_agnostic and job.name != "visible_as_amodal":
            pairing.class_agnostic = True
            _score(report, job, pairing, metrics, {}, score_threshold)
        if not details:
            report.samplers.clear()
    for note in report.notes:
        logger.warning(note)
    return report


def _jobs(
    dataset: VideoDataset, records: list[Record], visible_as_amodal: bool, boxes: bool
) -> list[_Job]:
    """Return what the ground truth has and the predictions have."""
    predicted = {key for key in MASK_KEYS.values() if all(key in record for record in records)}
    known = {key for key in MASK_KEYS.values() if dataset.has(key)}
    jobs = [_Job(kind, key, key) for kind, key in MASK_KEYS.items() if key in predicted & known]
    if boxes and (dataset.has(BOX_KEY) or AMODAL_KEY in known):
        if all(record.get(BOX_KEY) is not None or AMODAL_KEY in predicted for record in records):
            jobs.append(_Job("amodal_box", AMODAL_KEY, AMODAL_KEY, boxes=True))
    if visible_as_amodal and AMODAL_KEY in known and VISIBLE_KEY in predicted:
        jobs.append(_Job("visible_as_amodal", VISIBLE_KEY, AMODAL_KEY))
    return jobs


def _pair(
    dataset: VideoDataset, records: list[Record], job: _Job, file: str | Path | None
) -> TrackPairing:
    """Bring predictions and ground truth of one kind together."""
    use_amodal_score = job.true_key == AMODAL_KEY
    scores = np.array([_score_of(record, use_amodal_score) for record in records], np.float64)
    if job.boxes:
        lengths = {video["id"]: video["length"] for video in dataset.videos}
        boxes = box_tubes(records, BOX_KEY, AMODAL_KEY, lengths, file=file)
        true_boxes = box_tubes(dataset.annotations, BOX_KEY, AMODAL_KEY, lengths, file=dataset.file)
        present = [i for i, one in enumerate(true_boxes.boxes) if not np.isnan(one).all()]
        tracks = [dataset.annotations[i] for i in present]
        return TrackPairing(dataset, records, boxes, scores, tracks, true_boxes.select(present))
    tracks = [track for track in dataset.annotations if any(track[job.true_key])]
    predicted = measure_tubes([record[job.predicted_key] for record in records])
    truth = measure_tubes([track[job.true_key] for track in tracks])
    return TrackPairing(dataset, records, predicted, scores, tracks, truth)


def _score(
    report: VideoReport,
    job: _Job,
    pairing: TrackPairing,
    metrics: Collection[str],
    parts: dict[str, np.ndarray],
    score_threshold: float | None,
) -> None:
    """Go through the cells once and enter all rows of a pairing into the report."""
    name = f"{job.name}_class_agnostic" if pairing.class_agnostic else job.name
    area_key = None if job.boxes else AREA_KEYS[job.true_key]
    ap = TubeAP(pairing, area_key) if "ap" in metrics else None
    tracking = None
    if "hota" in metrics:
        tracking = TrackingMetrics(pairing, score_threshold=score_threshold, parts=parts)
    for cell in pairing.cells(None if tracking else MAX_DETECTIONS[-1]):
        if ap is not None:
            ap.add(cell)
        if tracking is not None:
            tracking.add(cell)
    if ap is not None:
        rates = partial(_occlusion_rates, pairing.tracks)
        report.rows[name] = ap.score()
        report.samplers[AP_PROTOCOL, name] = ap.details(rates)
        for part, counted in parts.items() if not job.boxes else ():
            row = f"{name}_{part}"
            report.rows[row] = ap.score(ignore=~counted)
            report.samplers[AP_PROTOCOL, row] = ap.details(rates, ignore=~counted)
    if tracking is not None:
        for part in ["", *parts]:
            row = f"{name}_{part}" if part else name
            scores = tracking.scores(part)
            report.tracking[row] = scores
            report.samplers[scores.protocol, row] = tracking.details(part)


def _occlusion_parts(tracks: list[Record]) -> dict[str, np.ndarray]:
    """Return which tracks lie in each bin; no bins if their occlusion is not known."""
    if not all("occlusion_rates" in track or AMODAL_KEY in track for track in tracks):
        return {}
    rates = _occlusion_rates(tracks)
    return {name: (rates >= low) & (rates <= high) for name, (low, high) in OCCLUSION_BINS.items()}


def _occlusion_rates(tracks: list[Record]) -> np.ndarray:
    """Return the mean occlusion rates [M] of tracks, NaN where they are not known."""
    return np.array(
        [
            _mean_occlusion(track) if "occlusion_rates" in track or AMODAL_KEY in track else np.nan
            for track in tracks
        ],
        dtype=np.float64,
    )


def _mean_occlusion(track: Record) -> float:
    """Average the occlusion rates over the frames with an amodal mask, measuring missing rates.

    A track without any rate gives NaN, which lies in no bin.
    """
    rates = track.get("occlusion_rates")
    if rates is None:
        amodal, visible = measure_tubes([track[AMODAL_KEY], track[VISIBLE_KEY]]).areas
        rates = [1 - v / a if a else None for v, a in zip(visible, amodal, strict=True)]
    known = [rate for rate in rates if rate is not None]
    return float(np.mean(known)) if known else np.nan


def _score_of(record: Record, amodal: bool) -> float:
    own = record.get("amodal_score") if amodal else None
    return record["score"] if own is None else own


def _count(dataset: VideoDataset, records: list[Record]) -> dict[str, int]:
    return {
        "videos": len(dataset.videos),
        "true tracks": len(dataset.annotations),
        "predicted tracks": len(records),
    }
