"""The mIoU rules of each published evaluation; their numbers must never be compared.

They differ in what is compared, in the small constant that decides about empty masks, in which
object-frames count, and in the order of averaging. Every function takes :class:`Measures` and
returns fractions and counts under the names that the field uses; a mean over nothing is undefined
(-1). With several samples only the Diffusion-VAS rules use them (best of K per frame); the others
judge the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from amodal2.evaluation.completion_measure import Measures
from amodal2.evaluation.report import UNDEFINED

_EPS = 1e-6
_HIDDEN = (0.1, 0.7)
_BOX_THRESHOLDS = {"AP25": 0.25, "AP50": 0.5, "AP75": 0.75}


@dataclass
class CompletionScores:
    """Numbers of one protocol.

    Args:
        values: metric name -> fraction in [0, 1], -1 where undefined.
        counts: name -> number of objects or object-frames that a mean runs over.
    """

    values: dict[str, float]
    counts: dict[str, int] = field(default_factory=dict)


def savos_fishbowl(measures: Measures, *, filtered: bool) -> CompletionScores:
    """Score as SaVos does on FISHBOWL: P' against A, and both inside the other objects.

    Empty against empty is 1. metric1 averages over the objects of a frame and then over frames,
    metric2 over object-frames.

    Args:
        measures: counts.
        filtered: only object-frames with an occlusion rate strictly between .1 and .7 that are
            neither the first nor the last of their object.
    """
    chosen = np.ones(len(measures.rates), dtype=bool)
    if filtered:
        inside = (measures.rates > _HIDDEN[0]) & (measures.rates < _HIDDEN[1])
        chosen = inside & ~measures.ends
    frame = _groups(measures.scenes, measures.frames)
    values, frames = {}, 0
    for name, pair in (("full", "full_blend"), ("occ", "others")):
        iou = _smooth_iou(measures.overlaps[pair][0])
        by_frame = _group_means(iou[chosen], frame[chosen])
        values[f"metric1_{name}"] = _mean(by_frame)
        values[f"metric2_{name}"] = _mean(iou[chosen])
        frames = len(by_frame)
    counts = {"num_object_frames": int(chosen.sum()), "num_video_frames": frames}
    return CompletionScores(values, counts)


def savos_kins_car(measures: Measures) -> CompletionScores:
    """Score as SaVos does on KINS-Video-Car, with known pairing: values of exactly 1 are left out.

    metric1 averages per image and then over images, metric2 over objects. The official script finds
    the pairs by visible IoU and takes the predicted visible masks; here they are the true ones.

    Args:
        measures: counts.
    """
    frame = _groups(measures.scenes, measures.frames)
    values = {}
    for name, pair in (("full", "full_blend"), ("occ", "others")):
        iou = _smooth_iou(measures.overlaps[pair][0])
        chosen = iou != 1
        values[f"metric1_{name}"] = _mean(_group_means(iou[chosen], frame[chosen]))
        values[f"metric2_{name}"] = _mean(iou[chosen])
    return CompletionScores(values)


def partly_hidden(measures: Measures) -> CompletionScores:
    """Score object-frames that are hidden by .1 to .7: P and P' against A, and their hidden parts.

    ``full`` and ``occ`` judge P, ``full_blend`` and ``occ_blend`` P' (the prediction inside O, the
    visible mask elsewhere). The hidden part is what is not in V, whatever hides it.

    Args:
        measures: counts.
    """
    chosen = (measures.rates > _HIDDEN[0]) & (measures.rates < _HIDDEN[1])
    pairs = {
        "full": "full",
        "occ": "hidden",
        "full_blend": "full_blend",
        "occ_blend": "hidden_blend",
    }
    values = {
        name: _mean(_plain_iou(_overlap(measures, pair)[chosen])) for name, pair in pairs.items()
    }
    return CompletionScores(values, {"num_object_frames": int(chosen.sum())})


def c2f_image(measures: Measures) -> CompletionScores:
    """Score as C2F-Seg does on images: P against A, and P - V against A - V.

    ``post`` adds the visible mask to the prediction first. Objects with as many visible as amodal
    pixels are left out of ``occ``.

    Args:
        measures: counts.
    """
    full, post = (_overlap(measures, name) for name in ("full", "full_union"))
    occluded = measures.signed_hidden != 0
    hidden = _plain_iou(_overlap(measures, "hidden"))[occluded]
    values = {
        "full": _mean(_smooth_iou(full, 1e-10)),
        "full_post": _mean(_smooth_iou(post, 1e-10)),
        "occ": _mean(hidden),
        # V is taken out again, so that adding it changes nothing.
        "occ_post": _mean(hidden),
    }
    return CompletionScores(values, {"n": full.shape[0], "n_occ": int(occluded.sum())})


def c2f_video(measures: Measures) -> CompletionScores:
    """Score as C2F-Seg does on videos: mean over the frames of an object, then over objects.

    Frames without a hidden part count as 0 in ``occ``. ``post`` uses P only inside O.

    Args:
        measures: counts.
    """
    pairs = {
        "full": "full",
        "full_post": "full_blend",
        "occ": "hidden",
        "occ_post": "hidden_blend",
    }
    values = {
        name: _mean(_group_means(_plain_iou(_overlap(measures, pair)), measures.objects))
        for name, pair in pairs.items()
    }
    return CompletionScores(values, {"n_objects": len(np.unique(measures.objects))})


def eoras(measures: Measures) -> CompletionScores:
    """Score as EoRaS does: mean over object-frames, those without a hidden part count as 0.

    Values of exactly 1, in the official single precision, are left out of ``occ``; perfect hidden
    parts thus do not count.

    Args:
        measures: counts.
    """
    counts = _overlap(measures, "hidden").astype(np.float32)
    hidden = counts[:, 0] / (counts[:, 1] + np.float32(_EPS))
    kept = hidden[hidden != 1].astype(np.float64)
    values = {"full": _mean(_plain_iou(_overlap(measures, "full"))), "occ": _mean(kept)}
    return CompletionScores(values, {"n_occ": len(kept)})


def diffusion_vas(
    measures: Measures, *, sequences: tuple[float, float] = (0.0, 1.0)
) -> CompletionScores:
    """Score as Diffusion-VAS does on SAIL-VOS: P or V against A, and the eroded hidden parts.

    Both hidden parts are eroded by 5 x 5 pixels; frames whose hidden IoU is below 1e-6 are dropped
    from ``miou_occ``. Of K samples the best one of each frame counts, for both numbers on its own
    (Top-K).

    Args:
        measures: counts.
        sequences: objects count whose mean IoU of visible and amodal mask lies in this range, both
            ends included.
    """
    ratio = _group_means(_plain_iou(_overlap(measures, "visible")), measures.objects)
    numbers = np.unique(measures.objects, return_inverse=True)[1]
    inside = ((ratio >= sequences[0]) & (ratio <= sequences[1]))[numbers]
    full = _plain_iou(measures.overlaps["full_union"]).max(axis=0)[inside]
    hidden = _plain_iou(measures.overlaps["hidden_eroded"]).max(axis=0)[inside]
    kept = hidden[hidden >= _EPS]
    values = {
        "miou": _mean(full),
        "miou_occ": _mean(kept),
        "miou_occ_without_dropping": _mean(hidden),
    }
    return CompletionScores(values, {"n_frames": len(full), "n_occ_kept": len(kept)})


def diffusion_vas_box(measures: Measures) -> CompletionScores:
    """Score as Diffusion-VAS does on TAO-Amodal: the tight box of P or V against the amodal box.

    "AP25" is no average precision: the fraction of object-frames whose box IoU is above .25. Of K
    samples the best one of each frame counts.

    Args:
        measures: counts.
    """
    iou = measures.box_iou.max(axis=0)
    values = {name: _mean(iou > limit) for name, limit in _BOX_THRESHOLDS.items()}
    return CompletionScores({**values, "miou": _mean(iou)}, {"n": len(iou)})


VARIANTS: dict[str, Callable[[Measures], CompletionScores]] = {
    "c2f_image": c2f_image,
    "diffusion_vas": diffusion_vas,
    "diffusion_vas_box": diffusion_vas_box,
    "c2f_video": c2f_video,
    "eoras": eoras,
    "partly_hidden": partly_hidden,
    "savos_fishbowl_filtered": lambda measures: savos_fishbowl(measures, filtered=True),
    "savos_fishbowl_unfiltered": lambda measures: savos_fishbowl(measures, filtered=False),
    "savos_kins_car": savos_kins_car,
}
"""Name of the protocol -> its rule."""

_SAVOS = (
    "SaVos on FISHBOWL: the prediction counts inside other visible objects only, else the visible "
)
DESCRIPTIONS = {
    "c2f_image": "C2F-Seg on images; full: IoU of the amodal masks, mean over objects; occ: IoU of "
    "the hidden parts, objects without one left out; post: with the visible mask added",
    "diffusion_vas": "Diffusion-VAS on SAIL-VOS, at the size of the ground truth; miou: IoU of "
    "prediction or visible mask with the amodal mask, mean over frames; miou_occ: IoU of the "
    "eroded hidden parts, frames with an IoU of 0 dropped",
    "diffusion_vas_box": "Diffusion-VAS on TAO-Amodal: share of boxes with an IoU above .25, .50, "
    ".75; no AP, despite its name there",
    "c2f_video": "C2F-Seg on videos: mean over the frames of an object, then over objects; frames "
    "without a hidden part count as 0 in occ",
    "eoras": "EoRaS: mean over object-frames; those without a hidden part count as 0 in occ",
    "partly_hidden": "frames hidden by .1 to .7, mean over them; full: IoU of the amodal "
    "masks; occ: IoU of the hidden parts (amodal minus visible); blend: the prediction counts "
    "inside other visible objects only, else the visible mask",
    "savos_fishbowl_filtered": _SAVOS + "mask; frames hidden by .1 to .7, without first and last",
    "savos_fishbowl_unfiltered": _SAVOS + "mask; all frames",
    "savos_kins_car": "SaVos on KINS-Video-Car, known pairing: as on FISHBOWL, values of exactly 1 "
    "left out",
}
"""Name of the protocol -> what a reader of its numbers must know."""


def _overlap(measures: Measures, name: str) -> np.ndarray:
    """Return intersection and union [N, 2] of the first sample."""
    return measures.overlaps[name][0]


def _plain_iou(counts: np.ndarray) -> np.ndarray:
    """Return I / (U + 1e-6): empty against empty is 0."""
    return counts[..., 0] / (counts[..., 1] + _EPS)


def _smooth_iou(counts: np.ndarray, eps: float = _EPS) -> np.ndarray:
    """Return (I + eps) / (U + eps): empty against empty is 1."""
    return (counts[..., 0] + eps) / (counts[..., 1] + eps)


def _groups(*keys: np.ndarray) -> np.ndarray:
    """Return for each entry the number of its combination of keys (ndarray[N])."""
    return np.unique(np.stack(keys, 1), axis=0, return_inverse=True)[1].reshape(-1)


def _group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the mean of the values of each group that occurs."""
    numbers = np.unique(groups, return_inverse=True)[1]
    return np.bincount(numbers, weights=values) / np.bincount(numbers)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else UNDEFINED
