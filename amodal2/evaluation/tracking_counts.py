"""HOTA, CLEAR and identity metrics from the IoUs of every frame; the rules of TrackEval.

Each function turns one video (of one class) into counts. Counts of videos and classes add up, and
all metrics are ratios of the sums (TrackEval's COMBINED_SEQ).

- HOTA (Luiten et al., IJCV 2021): per frame one assignment that maximises the sum of alignment of
  the two tracks in the whole video times IoU. A pair counts at the threshold alpha if its IoU
  reaches alpha; 19 thresholds .05 to .95.
- CLEAR (Bernardin and Stiefelhagen, 2008): per frame one assignment of pairs of IoU .5 or more that
  first keeps the pairs of the frame before and then maximises the sum of IoUs. An identity switch
  is a true track whose predicted track differs from the one that it had last.
- Identity (Ristani et al., 2016): one assignment of whole tracks that maximises the number of
  frames in which a pair has an IoU of .5 or more.

Dimensions: T frames, D predicted tracks, G ground-truth tracks, A thresholds, P pairs of tracks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from scipy.optimize import linear_sum_assignment

from amodal2.evaluation.overlaps import Overlaps

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""IoU thresholds of HOTA."""

THRESHOLD = 0.5
"""IoU threshold of CLEAR and identity metrics."""

_EPS = np.finfo(np.float64).eps
# What TrackEval adds to pairs that were matched in the frame before.
_CONTINUED = 1000.0

Triples = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Matched pairs: frame, predicted track and true track of each."""


def _zeros() -> np.ndarray:
    return np.zeros(len(ALPHAS))


@dataclass
class TrackingCounts:
    """Sums over frames, of one video and class or of several.

    Args:
        hota_tp (ndarray[A]): matched pairs of a true and a predicted mask.
        association (ndarray[A]): sum over the matched pairs of the association accuracy of their
            tracks.
        association_recall (ndarray[A]): the same for the association recall.
        association_precision (ndarray[A]): the same for the association precision.
        localisation (ndarray[A]): sum of the IoUs of the matched pairs.
        clear_tp: pairs that CLEAR matches.
        clear_iou: sum of their IoUs.
        switches: identity switches.
        fragments: interruptions of true tracks between two matched frames.
        mostly_tracked: true tracks matched in more than 80 % of their frames.
        tracked: true tracks matched in 20 % or more.
        identity_tp: pairs that the identity metrics match.
        predicted: predicted masks or boxes.
        truth: true masks or boxes.
        predicted_tracks: tracks with at least one mask or box.
        true_tracks: the same for the ground truth.
    """

    hota_tp: np.ndarray = field(default_factory=_zeros)
    association: np.ndarray = field(default_factory=_zeros)
    association_recall: np.ndarray = field(default_factory=_zeros)
    association_precision: np.ndarray = field(default_factory=_zeros)
    localisation: np.ndarray = field(default_factory=_zeros)
    clear_tp: int = 0
    clear_iou: float = 0.0
    switches: int = 0
    fragments: int = 0
    mostly_tracked: int = 0
    tracked: int = 0
    identity_tp: int = 0
    predicted: int = 0
    truth: int = 0
    predicted_tracks: int = 0
    true_tracks: int = 0

    def __add__(self, other: TrackingCounts) -> TrackingCounts:
        """Join two videos or classes."""
        names = (one.name for one in fields(self))
        return TrackingCounts(**{n: getattr(self, n) + getattr(other, n) for n in names})

    def stats(self) -> dict[str, float]:
        """Return the metrics under TrackEval's names, those of HOTA as means over the thresholds.

        Returns:
            dict: fractions HOTA, DetA, AssA, DetRe, DetPr, AssRe, AssPr, LocA, HOTA(0), LocA(0)
            (at alpha .05), MOTA, MOTP, IDF1, IDR, IDP; numbers CLR_TP, CLR_FN, CLR_FP, IDSW, Frag,
            MT, PT, ML (mostly, partly tracked, mostly lost tracks), IDTP, IDFN, IDFP, Dets,
            GT_Dets, IDs, GT_IDs.
        """
        tp, truth, predicted = self.hota_tp, self.truth, self.predicted
        matched = np.maximum(1, tp)
        det_a = tp / np.maximum(1, truth + predicted - tp)
        ass_a = self.association / matched
        hota = np.sqrt(det_a * ass_a)
        loc_a = np.maximum(1e-10, self.localisation) / np.maximum(1e-10, tp)
        at_alpha = {
            "HOTA": hota,
            "DetA": det_a,
            "AssA": ass_a,
            "DetRe": tp / max(1, truth),
            "DetPr": tp / max(1, predicted),
            "AssRe": self.association_recall / matched,
            "AssPr": self.association_precision / matched,
            "LocA": loc_a,
        }
        clear_fp = predicted - self.clear_tp
        return {
            **{name: float(np.mean(values)) for name, values in at_alpha.items()},
            "HOTA(0)": float(hota[0]),
            "LocA(0)": float(loc_a[0]),
            "MOTA": (self.clear_tp - clear_fp - self.switches) / max(1, truth),
            "MOTP": self.clear_iou / max(1, self.clear_tp),
            "IDF1": self.identity_tp / max(1, (truth + predicted) / 2),
            "IDR": self.identity_tp / max(1, truth),
            "IDP": self.identity_tp / max(1, predicted),
            "CLR_TP": self.clear_tp,
            "CLR_FN": truth - self.clear_tp,
            "CLR_FP": clear_fp,
            "IDSW": self.switches,
            "Frag": self.fragments,
            "MT": self.mostly_tracked,
            "PT": self.tracked - self.mostly_tracked,
            "ML": self.true_tracks - self.tracked,
            "IDTP": self.identity_tp,
            "IDFN": truth - self.identity_tp,
            "IDFP": predicted - self.identity_tp,
            "Dets": predicted,
            "GT_Dets": truth,
            "IDs": self.predicted_tracks,
            "GT_IDs": self.true_tracks,
        }


def count_video(overlaps: Overlaps) -> TrackingCounts:
    """Match and count one video.

    Of several assignments that are equally good, the one that scipy finds counts; it depends on the
    order of the tracks.

    Args:
        overlaps: predicted and true tracks of one video that may be matched.

    Returns:
        TrackingCounts: of this video.
    """
    frames_of_predicted, frames_of_truth = overlaps.predicted.sum(0), overlaps.truth.sum(0)
    counts = TrackingCounts(
        predicted=int(frames_of_predicted.sum()),
        truth=int(frames_of_truth.sum()),
        predicted_tracks=int(np.count_nonzero(frames_of_predicted)),
        true_tracks=int(np.count_nonzero(frames_of_truth)),
    )
    if counts.predicted and counts.truth:
        _add_hota(counts, overlaps, frames_of_predicted[:, None], frames_of_truth)
        _add_clear(counts, overlaps, frames_of_truth)
        same = (overlaps.frames >= THRESHOLD).sum(axis=0)
        counts.identity_tp = int(same[linear_sum_assignment(same, maximize=True)].sum())
    return counts


def drop_tracks(overlaps: Overlaps, dropped: np.ndarray) -> Overlaps:
    """Take true tracks out, together with the predictions that show them.

    A prediction goes, in a single frame, if the best assignment of all predictions to all true
    tracks of that frame at an IoU of .5 or more gives it to a dropped track. This is a rule of this
    project, since published splits by occlusion do not state theirs.

    Args:
        overlaps: a video.
        dropped (ndarray[G]): bool.

    Returns:
        Overlaps: of the other true tracks; the tubes are those of the unchanged tracks.
    """
    frames, predicted, truth = overlaps.frames, overlaps.predicted.copy(), overlaps.truth
    close = np.where(frames >= THRESHOLD - _EPS, frames, 0.0)
    t, d, g = _assign(close, predicted, truth)
    predicted[t[dropped[g]], d[dropped[g]]] = False
    frames = frames[:, :, ~dropped] * predicted[:, :, None]
    return Overlaps(frames, overlaps.tubes[:, ~dropped], predicted, truth[:, ~dropped])


def _add_hota(
    counts: TrackingCounts, overlaps: Overlaps, of_predicted: np.ndarray, of_truth: np.ndarray
) -> None:
    """Fill in the sums of HOTA; the numbers of frames of the tracks are [D, 1] and [G]."""
    iou = overlaps.frames
    whole = iou.sum(axis=1, keepdims=True) + iou.sum(axis=2, keepdims=True) - iou
    shared = np.divide(iou, whole, out=np.zeros(iou.shape), where=whole > _EPS).sum(axis=0)
    alignment = shared / np.maximum(of_predicted + of_truth - shared, _EPS)
    t, d, g = _assign(alignment * iou, overlaps.predicted, overlaps.truth)
    if not len(t):
        return
    values = iou[t, d, g]
    levels = np.searchsorted(ALPHAS - _EPS, values, side="right")  # thresholds reached by each pair
    steps = len(ALPHAS) + 1
    tracks, pair = np.unique(d * iou.shape[2] + g, return_inverse=True)
    reached = np.bincount(pair * steps + levels, minlength=len(tracks) * steps)
    matches = _at_least(reached.reshape(-1, steps))  # [P, A]
    d, g = np.divmod(tracks, iou.shape[2])
    predicted, truth = of_predicted[d], of_truth[g][:, None]  # [P, 1]
    counts.hota_tp = matches.sum(axis=0).astype(np.float64)
    counts.association = (matches * (matches / (predicted + truth - matches))).sum(axis=0)
    counts.association_recall = (matches * (matches / truth)).sum(axis=0)
    counts.association_precision = (matches * (matches / predicted)).sum(axis=0)
    counts.localisation = _at_least(np.bincount(levels, values, minlength=steps)[None])[0]


def _add_clear(counts: TrackingCounts, overlaps: Overlaps, of_truth: np.ndarray) -> None:
    """Fill in the sums of CLEAR."""
    # TrackEval passes over frames in which one side has nothing: they interrupt no track.
    both = overlaps.predicted.any(axis=1) & overlaps.truth.any(axis=1)
    iou = overlaps.frames[both]
    close = np.where(iou >= THRESHOLD - _EPS, iou, 0.0)
    fits = close > 0
    unsure = (fits.sum(axis=1) > 1).any(axis=1) | (fits.sum(axis=2) > 1).any(axis=1)
    owner = np.full((len(iou), iou.shape[2]), -1)  # [T, G] predicted track of each true one
    t, d, g = np.nonzero(fits & ~unsure[:, None, None])
    owner[t, g] = d
    tracks = np.arange(iou.shape[1])[:, None]
    for frame in np.flatnonzero(unsure).tolist():
        score = close[frame]
        if frame:
            score = score + _CONTINUED * (fits[frame] & (owner[frame - 1] == tracks))
        d, g = _assign_frame(score)
        owner[frame, g] = d
    matched = owner >= 0
    t, g = np.nonzero(matched)
    ratio = matched.sum(axis=0)[of_truth > 0] / of_truth[of_truth > 0]
    begins = matched.sum(axis=0) - (matched[1:] & matched[:-1]).sum(axis=0)
    by_track, track = owner.T[matched.T], np.nonzero(matched.T)[0]
    counts.clear_tp = len(t)
    counts.clear_iou = float(iou[t, owner[t, g], g].sum())
    counts.switches = int(((by_track[1:] != by_track[:-1]) & (track[1:] == track[:-1])).sum())
    counts.fragments = int(np.maximum(begins - 1, 0).sum())
    counts.mostly_tracked = int((ratio > 0.8).sum())
    counts.tracked = int((ratio >= 0.2).sum())


def _assign(score: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> Triples:
    """Return the pairs of positive score of the best assignment in each frame (score [T, D, G]).

    Where the best predicted tracks of all true ones differ, these are the only best assignment, and
    no search is needed.
    """
    best = score.max(axis=1, keepdims=True, initial=0.0)
    chosen = (score == best) & (best > 0)
    unsure = (chosen.sum(axis=1) > 1).any(axis=1) | (chosen.sum(axis=2) > 1).any(axis=1)
    chosen[unsure] = False
    for frame in np.flatnonzero(unsure).tolist():
        rows, columns = np.flatnonzero(predicted[frame]), np.flatnonzero(truth[frame])
        d, g = _assign_frame(score[frame][rows[:, None], columns])
        chosen[frame, rows[d], columns[g]] = True
    t, d, g = np.nonzero(chosen)
    return t, d, g


def _assign_frame(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of positive score of the best assignment of one frame (score [D, G])."""
    g, d = linear_sum_assignment(score.T, maximize=True)
    positive = score[d, g] > 0
    return d[positive], g[positive]


def _at_least(counts: np.ndarray) -> np.ndarray:
    """Turn numbers [..., A + 1] by exact level into numbers [..., A] of level 1, 2, ... or more."""
    return counts[:, :0:-1].cumsum(axis=1)[:, ::-1]
