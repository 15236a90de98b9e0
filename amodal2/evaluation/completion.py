"""Score completed masks by named protocols, side by side.

The pairs are known: a completion system is given an object and returns its amodal mask, so nothing
is matched and there are no scores. The published rules differ so much (:mod:`completion_variants`)
that a number is never shown without the name of its protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from amodal2.evaluation.completion_details import CompletionDetails
from amodal2.evaluation.completion_input import pair_completions
from amodal2.evaluation.completion_measure import measure_completions
from amodal2.evaluation.completion_variants import DESCRIPTIONS, VARIANTS, CompletionScores
from amodal2.evaluation.report import UNDEFINED, format_table
from amodal2.evaluation.report_base import Report
from amodal2.evaluation.report_csv import Number
from amodal2.evaluation.resampling import Sampler
from amodal2.structures.image_json import ImageDataset
from amodal2.structures.video_json import VideoDataset
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

DEFAULT_PROTOCOLS = ("c2f_image", "diffusion_vas")


@dataclass
class CompletionReport(Report):
    """Everything that one evaluation of completions found out.

    Args:
        protocols: name of the protocol -> its scores.
        counts: what was compared: objects, object-frames, samples.
        notes: warnings, each a sentence with its number of cases.
        samplers: protocol and name of a row -> what its numbers come from; not stored.
    """

    protocols: dict[str, CompletionScores]
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    samplers: dict[tuple[str, str], Sampler] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __str__(self) -> str:
        """Return one table per protocol, preceded by the counts and followed by the notes."""
        lines = [", ".join(f"{count} {name}" for name, count in self.counts.items())]
        for name, scores in self.protocols.items():
            counts = ", ".join(f"{key} {count}" for key, count in scores.counts.items())
            lines += ["", format_table({name: self.percent()[name]}, list(scores.values))]
            lines += [f"over {counts}"] if counts else []
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def percent(self) -> dict[str, dict[str, float]]:
        """Return the defined metrics of every protocol in percent."""
        return {
            name: {key: 100 * v for key, v in scores.values.items() if v != UNDEFINED}
            for name, scores in self.protocols.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict: per protocol percentages and counts, then counts and notes."""
        results = {
            name: {**values, "counts": self.protocols[name].counts}
            for name, values in self.percent().items()
        }
        return {"unit": "percent", "results": results, "counts": self.counts, "notes": self.notes}

    def legend(self) -> dict[str, str]:
        """Return what each protocol measures, and over how many objects or object-frames."""
        found = {}
        for name, scores in self.protocols.items():
            counts = ", ".join(f"{key} {count}" for key, count in scores.counts.items())
            found[name] = DESCRIPTIONS[name] + (f"; over {counts}" if counts else "")
        return found

    def numbers(self) -> Iterator[Number]:
        """Yield the defined metrics with their protocols."""
        for protocol, values in self.percent().items():
            for item in values.items():
                yield Number("completion", protocol, "amodal", "mean", "", *item)


def evaluate_completions(
    dataset: VideoDataset | ImageDataset,
    predictions: Iterable[Any],
    *,
    protocols: Sequence[str] = DEFAULT_PROTOCOLS,
    file: str | Path | None = None,
    only: Collection[int] | None = None,
) -> CompletionReport:
    """Score completed masks.

    Args:
        dataset: the ground truth, with visible and amodal masks.
        predictions: records, see :mod:`amodal2.evaluation.completion_input`.
        protocols: names of ``completion_variants.VARIANTS``.
        file: where the predictions come from, for the messages.
        only: ids of the annotations that are judged; the others still hide them. None judges all.

    Returns:
        CompletionReport: fractions, counts and notes.

    Raises:
        ValueError: if a protocol is unknown or the ground truth lacks a kind of mask.
        AnnotationError: if a prediction is invalid.
    """
    unknown = [name for name in protocols if name not in VARIANTS]
    if unknown:
        raise ValueError(
            f"evaluate_completions: expected protocols of {sorted(VARIANTS)}, got {unknown}"
        )
    objects, notes = pair_completions(dataset, predictions, file, only)
    measures = measure_completions(objects)
    judged = [n for n, one in enumerate(objects) if only is None or one.id in only]
    if only is not None:
        measures = measures.take(np.flatnonzero(np.isin(measures.objects, judged)))
    counts = {"objects": len(judged), "object-frames": len(measures.rates)}
    samples = len(objects[0].samples) if objects else 1
    if samples > 1:
        counts["samples per object"] = samples
        first = [name for name in protocols if not name.startswith("diffusion_vas")]
        if first:
            notes.append(f"{', '.join(first)}: only the first of {samples} samples is judged")
    for note in notes:
        logger.warning(note)
    scores = {name: VARIANTS[name](measures) for name in protocols}
    samplers: dict[tuple[str, str], Sampler] = {
        (name, "amodal"): CompletionDetails(measures, VARIANTS[name]) for name in protocols
    }
    return CompletionReport(scores, counts, notes, samplers)
