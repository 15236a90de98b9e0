"""Results of an evaluation that a person can read and a program can store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amodal2.evaluation.report_base import Highlight, Report
from amodal2.evaluation.report_csv import Number
from amodal2.evaluation.resampling import Sampler

UNDEFINED = -1.0
"""Value of a metric without any ground truth that counts, as in the COCO tools."""

MAIN_COLUMNS = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")
"""Metrics that every table shows, defined or not."""

AP_PROTOCOL = "YTVIS, IoU of whole tubes .5:.95, at most 100 predictions per video and class"
"""How AP and AR come about, for the tables."""

TRACKING_FRACTIONS = (
    *("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "HOTA(0)", "LocA(0)"),
    *("MOTA", "MOTP", "IDF1", "IDR", "IDP"),
)
"""Tracking metrics that are fractions; all other ones are numbers of cases."""

TRACKING_COLUMNS = ("HOTA", "DetA", "AssA", "LocA", "IDF1", "IDP", "IDR", "MOTA", "IDSW", "Frag")
"""Tracking metrics that tables show."""

OCCLUSION_ROWS = {
    "visible": "all tracks",
    "visible_lt50": "hidden by at most half",
    "visible_gt50": "hidden by more than half",
}
"""Row -> name in the table of visible tracking under occlusion."""


@dataclass
class APScores:
    """Average precision and recall of one kind of mask over one set of ground truth.

    Args:
        stats: metric name -> fraction in [0, 1], -1 where undefined. Names: AP (mean over the IoU
            thresholds .5 to .95), AP50, AP75, APs, APm, APl (by mean area of a tube), AR1, AR10,
            AR100 (limits of predictions per video and category), ARs, ARm, ARl.
        per_category: category name -> AP, -1 where undefined.
    """

    stats: dict[str, float]
    per_category: dict[str, float] = field(default_factory=dict)

    def percent(self) -> dict[str, float]:
        """Return the defined metrics in percent; an undefined one is absent."""
        return _percent(self.stats)

    def to_dict(self) -> dict[str, Any]:
        """Return percentages of the defined metrics and of the defined categories."""
        return {**self.percent(), "per_category": _percent(self.per_category)}


@dataclass
class TrackingScores:
    """HOTA, CLEAR and identity metrics of one kind of mask or box over one set of ground truth.

    Args:
        protocol: how the numbers came about.
        averages: name of the average -> metric name (see
            :meth:`amodal2.evaluation.tracking_counts.TrackingCounts.stats`) -> value. The first
            average is the one that tables show. ``class_average``: fractions averaged over the
            classes with ground truth (TrackEval's TAO), ``all_classes_average``: over all classes
            of the dataset, where one without any data scores 0 (``cls_comb_cls_av`` of TrackEval's
            YouTubeVIS), ``detection_average``: ratios of the sums over all classes
            (``cls_comb_det_av``), or ``class_agnostic`` alone. Numbers are sums in all of them.
            Empty where there is no ground truth.
        per_category: category name -> metric name -> value; only classes with data.
    """

    protocol: str
    averages: dict[str, dict[str, float]]
    per_category: dict[str, dict[str, float]] = field(default_factory=dict)

    def percent(self) -> dict[str, float]:
        """Return the first average: fractions in percent, numbers as they are."""
        return _tracking_percent(next(iter(self.averages.values())))

    def to_dict(self) -> dict[str, Any]:
        """Return the protocol, the averages and the categories, fractions in percent."""
        return {
            "protocol": self.protocol,
            **{name: _tracking_percent(stats) for name, stats in self.averages.items()},
            "per_category": {
                name: _tracking_percent(stats) for name, stats in self.per_category.items()
            },
        }


@dataclass
class VideoReport(Report):
    """Everything that one evaluation of video predictions found out.

    Args:
        rows: name of the task -> AP and AR. A kind of mask that was not predicted, or that the
            ground truth does not have, has no row.
        counts: what was compared: videos, tracks, predictions.
        notes: warnings, each a sentence with its number of cases.
        tracking: name of the task -> tracking metrics, as ``rows``.
        samplers: protocol and name of a row -> what its numbers come from; not stored.
    """

    rows: dict[str, APScores] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tracking: dict[str, TrackingScores] = field(default_factory=dict)
    samplers: dict[tuple[str, str], Sampler] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __str__(self) -> str:
        """Return the tables, preceded by what was compared and followed by the notes."""
        head = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        lines = [head] if head else []
        if self.rows or not self.tracking:
            rows = {name: scores.percent() for name, scores in self.rows.items()}
            defined = (name for metrics in rows.values() for name in metrics)
            lines.append(format_table(rows, list(dict.fromkeys([*MAIN_COLUMNS, *defined]))))
            lines.append(f"AP, AR: {AP_PROTOCOL}")
        if self.tracking:
            rows = {name: scores.percent() for name, scores in self.tracking.items()}
            lines += ["", format_table(rows, TRACKING_COLUMNS)]
            protocols: dict[str, list[str]] = {}
            for name, tracks in self.tracking.items():
                protocols.setdefault(tracks.protocol, []).append(name)
            lines += [f"{', '.join(names)}: {text}" for text, names in protocols.items()]
        for table in self.highlights():
            columns = list(dict.fromkeys(name for row in table.rows.values() for name in row))
            lines += ["", f"{table.title}:", format_table(table.rows, columns)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict: the rows in percent, then ``counts`` and ``notes``.

        ``results`` holds AP and AR, ``tracking`` the rest where it was asked for.
        """
        report: dict[str, Any] = {
            "unit": "percent",
            "results": {name: scores.to_dict() for name, scores in self.rows.items()},
        }
        if self.tracking:
            report["tracking"] = {name: one.to_dict() for name, one in self.tracking.items()}
        return {**report, "counts": self.counts, "notes": self.notes}

    def highlights(self) -> list[Highlight]:
        """Return visible tracking under occlusion, where it was asked for and rates are known."""
        if not all(row in self.tracking for row in OCCLUSION_ROWS):
            return []
        rows: dict[str, dict[str, float]] = {}
        for row, name in OCCLUSION_ROWS.items():
            tracking = next(iter(self.tracking[row].averages.values()))
            found = self.tracking[row].percent()
            ap = self.rows[row].percent() if row in self.rows else {}
            rows[name] = {
                "true tracks": tracking.get("GT_IDs", 0),
                **{metric: ap[metric] for metric in ("AP", "AR10") if metric in ap},
                **{metric: found[metric] for metric in TRACKING_COLUMNS if metric in found},
            }
        source = (
            "occlusion of a track: the mean of its occlusion rates; AP, AR: tracks outside the bin "
            f"are ignored ({AP_PROTOCOL}); others: {self.tracking['visible_lt50'].protocol}"
        )
        return [Highlight("Visible tracking under occlusion", source, rows)]

    def numbers(self) -> Iterator[Number]:
        """Yield the defined metrics with their protocols."""
        for row, scores in self.rows.items():
            yield from ap_numbers("video", AP_PROTOCOL, row, scores)
        for row, tracks in self.tracking.items():
            start = ("video", tracks.protocol, row)
            for group, stats in tracks.averages.items():
                for item in _tracking_percent(stats).items():
                    yield Number(*start, group, "", *item)
            for name, stats in tracks.per_category.items():
                for item in _tracking_percent(stats).items():
                    yield Number(*start, "category", name, *item)


def ap_numbers(task: str, protocol: str, row: str, scores: APScores) -> Iterator[Number]:
    """Yield the defined metrics of one row of AP and AR, and the AP of its categories.

    Args:
        task: of the report.
        protocol: by whose rules the numbers came about.
        row: name of the row.
        scores: its scores.
    """
    for item in scores.percent().items():
        yield Number(task, protocol, row, "mean", "", *item)
    for name, value in _percent(scores.per_category).items():
        yield Number(task, protocol, row, "category", name, "AP", value)


def format_table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    """Lay out metrics in percent as text with aligned columns.

    Args:
        rows: name of the row -> metric name -> percent; a number of cases is an int.
        columns: metric names.

    Returns:
        str: lines without a final newline; "-" marks a metric that a row does not have.
    """
    lines = [["task (%)", *columns]]
    for name, metrics in rows.items():
        lines.append([name, *(_format(metrics.get(column)) for column in columns)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _percent(fractions: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * value for name, value in fractions.items() if value != UNDEFINED}


def _tracking_percent(stats: Mapping[str, float]) -> dict[str, float]:
    return {
        name: 100 * value if name in TRACKING_FRACTIONS else value for name, value in stats.items()
    }


def _format(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.2f}"
