"""Charts of rows of AP: precision over recall, and AP and AR by occlusion rate."""

from __future__ import annotations

import numpy as np

from amodal2.evaluation.ap_details import APDetails
from amodal2.evaluation.average_precision import RECALL_THRESHOLDS
from amodal2.evaluation.svg_chart import line_chart

BINS = {
    "0": (0.0, 1e-5),
    "0 to .25": (1e-5, 0.25),
    ".25 to .5": (float(np.nextafter(0.25, 1)), 0.5),
    ".5 to .75": (float(np.nextafter(0.5, 1)), 0.75),
    ".75 to 1": (float(np.nextafter(0.75, 1)), 1.0),
}
"""Text -> lowest and highest occlusion rate, both included."""


def recall_chart(title: str, details: APDetails) -> str:
    """Draw precision over recall at IoU .5, .75 and averaged over .5:.95.

    Args:
        title: of the chart.
        details: the row; its categories with objects are averaged.

    Returns:
        str: SVG.
    """
    precision = details.curves().precision[..., 0, 0]  # [T, R, K]
    known = precision[0, 0] > -1
    if not known.any():
        return ""
    mean = 100 * precision[:, :, known].mean(axis=2)
    return line_chart(
        title,
        {
            "IoU .50": mean[0].tolist(),
            "IoU .75": mean[5].tolist(),
            "IoU .50:.95": mean.mean(axis=0).tolist(),
        },
        (100 * RECALL_THRESHOLDS).tolist(),
        x_label="recall (%)",
        y_label="precision (%)",
        ticks={float(value): str(value) for value in range(0, 101, 20)},
    )


def occlusion_chart(title: str, details: APDetails) -> str:
    """Draw AP and AR of the objects of each occlusion bin, the others ignored, and their number.

    A prediction that takes no object is a false positive in every bin, so that AP of a bin lies
    below AP overall.

    Args:
        title: of the chart.
        details: the row.

    Returns:
        str: SVG; empty without occlusion rates.
    """
    rates = details.rates()
    if not len(rates) or np.isnan(rates).all():
        return ""
    limit = details.limits[-1]
    series: dict[str, list[float | None]] = {"AP": [], f"AR{limit}": []}
    ticks = {}
    for i, (text, (low, high)) in enumerate(BINS.items()):
        within = details.within(low, high)
        counted = sum(int((~(c.cell.ignore | c.cell.crowd)).sum()) for k in within.cells for c in k)
        ticks[float(i)] = f"{text}\nn = {counted}"
        stats = within.sample(np.ones((1, len(details.scenes)), dtype=np.int64))
        for name, values in series.items():
            value = float(stats[name][0])
            values.append(None if np.isnan(value) else value)
    return line_chart(
        title,
        series,
        list(range(len(BINS))),
        x_label="occlusion rate",
        y_label="AP, AR (%)",
        ticks=ticks,
        markers=True,
    )
