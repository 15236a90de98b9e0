"""From the shapes of an image task to cells by image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amodal2.evaluation.ap_details import APDetails, SceneCell
from amodal2.evaluation.average_precision import Cell
from amodal2.evaluation.image_ap import ImageTask
from amodal2.evaluation.image_predictions import Record
from amodal2.evaluation.image_shapes import shape_iou


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
    ignored = task.few if ignore is None else task.few | ignore
    scores = np.array([record["score"] for record in task.records], dtype=np.float64)
    own, others = _group(task, task.objects), _group(task, task.records)
    keys = [None] if task.rules.class_agnostic else list(task.categories)
    cells: list[list[SceneCell]] = []
    for key in keys:
        cells.append([])
        for image in images:
            columns = np.array(own.get((key, image), []), dtype=np.int64)
            rows = np.array(others.get((key, image), []), dtype=np.int64)
            if len(columns) or len(rows):
                rows = rows[np.argsort(-scores[rows], kind="stable")][: task.rules.limits[-1]]
                cell = _cell(task, rows, columns, scores, ignored)
                cells[-1].append(SceneCell(image, cell, columns))
    rates = task.rates
    return APDetails(images, cells, task.rules.area_ranges, task.rules.limits, lambda: rates, part)


def _cell(
    task: ImageTask, rows: np.ndarray, columns: np.ndarray, scores: np.ndarray, ignored: np.ndarray
) -> Cell:
    crowd = np.array([task.objects[i]["iscrowd"] and task.rules.crowd for i in columns], dtype=bool)
    iou = shape_iou(
        [task.predicted.shapes[i] for i in rows], [task.shapes[i] for i in columns], crowd
    )
    return Cell(
        scores=scores[rows],
        iou=iou,
        prediction_areas=task.predicted.areas[rows],
        truth_areas=task.areas[columns],
        crowd=crowd,
        ignore=ignored[columns],
    )


def _group(task: ImageTask, entries: Sequence[Record]) -> dict[tuple[int | None, int], list[int]]:
    """Return the positions of the entries of each cell, by category and then as in the file."""
    groups: dict[tuple[int | None, int], list[int]] = {}
    for i in sorted(range(len(entries)), key=lambda i: entries[i]["category_id"]):
        key = None if task.rules.class_agnostic else entries[i]["category_id"]
        groups.setdefault((key, entries[i]["image_id"]), []).append(i)
    return groups
