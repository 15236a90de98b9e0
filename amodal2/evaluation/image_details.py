"""From the scored cells of an image task to cells by image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from amodal2.evaluation.ap_details import APDetails, SceneCell
from amodal2.evaluation.image_ap import ImageTask


def image_details(
    task: ImageTask, images: list[int], ignore: np.ndarray | None, part: bool
) -> APDetails:
    """Return the cells of a task by image.

    Args:
        task: one region.
        images: ids of all images, ascending.
        ignore (ndarray[G] | None): bool; objects of the task that do not count.
        part: whether the row is about a part of the objects of another row.
    """
    cells = [
        [
            SceneCell(
                (task.objects[columns[0]] if len(columns) else task.records[rows[0]])["image_id"],
                cell if ignore is None else replace(cell, ignore=cell.ignore | ignore[columns]),
                columns,
            )
            for cell, rows, columns in row
        ]
        for row in task.cells
    ]
    rates = task.rates
    return APDetails(images, cells, task.rules.area_ranges, task.rules.limits, lambda: rates, part)
