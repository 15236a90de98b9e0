"""Pictures of the objects of one image: what is seen of them, what is hidden, and by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from amodal2.structures.frame_object import FrameObject
from amodal2.structures.rle import RLE
from amodal2.utils.frame_source import Frame
from amodal2.visualization.overlay import DEFAULT_STYLE, draw_overlay
from amodal2.visualization.panels import side_by_side


def draw_objects(
    image: Frame, objects: Sequence[FrameObject], category_names: Mapping[int, str]
) -> Frame:
    """Draw visible parts filled and hidden parts hatched.

    Args:
        image (ndarray[H, W, 3]): RGB uint8; not changed.
        objects: each with a visible or an amodal mask, or both. If none of them has a visible one,
            amodal masks are filled.
        category_names: name of each category id.

    Returns:
        ndarray[H, W, 3]: RGB uint8.
    """
    picture = image.copy()
    whole = bool(objects) and all(item.visible is None for item in objects)
    draw_overlay(picture, objects, category_names, replace(DEFAULT_STYLE, whole=whole))
    return picture


def draw_object_panels(
    image: Frame,
    objects: Sequence[FrameObject],
    category_names: Mapping[int, str],
    occluders: Sequence[RLE | None] | None = None,
) -> Frame:
    """Put an image, its objects and what lies over them beside each other.

    Args:
        image (ndarray[H, W, 3]): RGB uint8; not changed.
        objects: N objects, see :func:`draw_objects`.
        category_names: name of each category id.
        occluders: N masks of what lies over each object, drawn in its colour; None leaves the third
            panel out.

    Returns:
        ndarray[H, W', 3]: RGB uint8.

    Raises:
        ValueError: if there is another number of occluders than of objects.
    """
    frames = [image, draw_objects(image, objects, category_names)]
    titles = ["input", "visible and hidden parts"]
    if occluders is not None:
        over = [
            replace(item, visible=None, amodal=mask)
            for item, mask in zip(objects, occluders, strict=True)
        ]
        picture = image.copy()
        draw_overlay(picture, over, category_names)
        frames.append(picture)
        titles.append("what lies over each")
    return side_by_side(frames, titles)
