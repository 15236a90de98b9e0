"""A sheet of samples that shows what annotations mean: one row per picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from amodal2.structures.frame_object import FrameObject
from amodal2.structures.rle import RLE
from amodal2.utils.frame_source import Frame
from amodal2.visualization.overlay import draw_overlay
from amodal2.visualization.panels import side_by_side


@dataclass
class Sample:
    """One annotated picture.

    Args:
        frame (ndarray[H, W, 3]): RGB uint8.
        objects: its objects.
        occluders: id of an object -> what lies over it, for those where that is known.
    """

    frame: Frame
    objects: Sequence[FrameObject]
    occluders: Mapping[int, RLE]


def draw_sheet(
    samples: Sequence[Sample], category_names: Mapping[int, str], width: int = 320
) -> Frame:
    """Draw rows of panels: picture, visible masks, amodal masks and, where known, occluders.

    Args:
        samples: at least one.
        category_names: name of each category id.
        width: of a panel in pixels; pictures keep their proportions.

    Returns:
        ndarray[H, W, 3]: RGB uint8.

    Raises:
        ValueError: if there is no sample.
    """
    if not samples:
        raise ValueError("draw_sheet: expected at least one sample, got none")
    occluders = any(sample.occluders for sample in samples)
    rows = [_draw_row(sample, category_names, width, occluders) for sample in samples]
    return np.concatenate(rows)


def _draw_row(
    sample: Sample, category_names: Mapping[int, str], width: int, occluders: bool
) -> Frame:
    views = {
        "picture": [],
        "visible": [replace(found, amodal=None) for found in sample.objects],
        "amodal": list(sample.objects),
    }
    if occluders:
        views["occluder"] = [
            replace(found, visible=sample.occluders[found.id], amodal=None)
            for found in sample.objects
            if found.id in sample.occluders
        ]
    panels = []
    for objects in views.values():
        panel = sample.frame.copy()
        draw_overlay(panel, objects, category_names)
        height = max(1, round(panel.shape[0] * width / panel.shape[1]))
        panels.append(cv2.resize(panel, (width, height), interpolation=cv2.INTER_AREA))
    return side_by_side(panels, list(views))
