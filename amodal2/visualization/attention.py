"""Draw prior masks and attention on a frame. Letters: H W frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal2.utils.frame_source import Frame

_VISIBLE, _AMODAL = (0, 114, 178), (213, 94, 0)  # blue and orange, told apart by colour-blind eyes
_TINT = 0.6
_DIM = 0.35  # brightness of the frame behind a map


def draw_priors(frame: Frame, visible: NDArray[np.bool_], amodal: NDArray[np.bool_]) -> Frame:
    """Tint the visible prior, and the amodal one where the visible one is not.

    Args:
        frame (ndarray[H, W, 3]): RGB uint8; not changed.
        visible (ndarray[H, W]): bool, drawn in blue.
        amodal (ndarray[H, W]): bool, drawn in orange.

    Returns:
        ndarray[H, W, 3]: RGB uint8.
    """
    drawn = frame * _DIM
    for mask, color in ((amodal & ~visible, _AMODAL), (visible, _VISIBLE)):
        drawn[mask] += np.array(color) * _TINT
    return np.clip(drawn, 0, 255).astype(np.uint8)


def draw_heat(frame: Frame, values: NDArray[np.float32]) -> Frame:
    """Lay a map over the dimmed, grey frame: dark for 0, bright for 1.

    Args:
        frame (ndarray[H, W, 3]): RGB uint8; not changed.
        values (ndarray[H, W]): from 0 to 1.

    Returns:
        ndarray[H, W, 3]: RGB uint8.
    """
    levels = (np.clip(values, 0, 1) * 255).astype(np.uint8)
    heat = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = frame.mean(axis=2, keepdims=True) * _DIM
    return np.clip(grey + heat, 0, 255).astype(np.uint8)
