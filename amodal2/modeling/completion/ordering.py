"""Which of two objects lies in front, from their visible masks in one frame.

Letters: M objects, H W frame. In a matrix of order, entry (i, j) tells whether j lies in front of
i.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Order = npt.NDArray[np.bool_]  # [M, M]


def convex_hull(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Fill the convex hull of a mask's pixel centres.

    Args:
        mask (ndarray[H, W]): bool.

    Returns:
        ndarray[H, W]: bool, the pixels whose centre lies in the hull or on the way of its outline;
        all pixels of the mask among them.
    """
    hull = mask.astype(np.uint8)
    points = cv2.findNonZero(hull)
    if points is not None:
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return hull.astype(bool)


def touching(masks: npt.NDArray[np.bool_]) -> Order:
    """Tell which masks touch: one, grown by one pixel to its four sides, meets the other.

    Args:
        masks (ndarray[M, H, W]): bool.

    Returns:
        ndarray[M, M]: bool, symmetric, False on the diagonal.
    """
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    grown = [cv2.dilate(mask.astype(np.uint8), cross) > 0 for mask in masks]
    touch = np.array([[bool((one & mask).any()) for mask in masks] for one in grown], dtype=bool)
    touch = touch.reshape(len(masks), len(masks))
    np.fill_diagonal(touch, False)
    return touch


def hull_order(masks: npt.NDArray[np.bool_]) -> Order:
    """Order touching objects by what each hides of the other's convex hull (deocclusion).

    Args:
        masks (ndarray[M, H, W]): bool.

    Returns:
        ndarray[M, M]: j lies in front of i if it covers more of the part of i's hull that is not i
        than i covers of j's.
    """
    count = len(masks)
    gaps = [convex_hull(mask) & ~mask for mask in masks]
    hidden = np.array([[(gap & mask).sum() for mask in masks] for gap in gaps], np.int64)
    hidden = hidden.reshape(count, count)
    return touching(masks) & (hidden > hidden.T)


def all_in_front(order: Order) -> Order:
    """Add the objects in front of those in front, and so on.

    Args:
        order (ndarray[M, M]): direct relations, cycles allowed.

    Returns:
        ndarray[M, M]: whatever can be reached; False on the diagonal.
    """
    reached = order.copy()
    for middle in range(len(order)):
        reached |= reached[:, middle, None] & reached[None, middle]
    np.fill_diagonal(reached, False)
    return reached
