"""The overlay: fill, hatching, outline, in place."""

from __future__ import annotations

import numpy as np
import pytest

from amodal2.structures.frame_object import FrameObject
from amodal2.structures.rle import encode_mask
from amodal2.visualization.overlay import OverlayStyle, draw_overlay
from amodal2.visualization.palette import color_of

PLAIN = OverlayStyle(labels=False)
SIZE = (240, 320)


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Visible left half and amodal whole of a rectangle."""
    visible, amodal = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    visible[60:160, 50:120] = True
    amodal[60:160, 50:200] = True
    return visible, amodal


def item(visible: np.ndarray | None, amodal: np.ndarray | None, number: int = 1) -> FrameObject:
    rles = [None if mask is None else encode_mask(mask) for mask in (visible, amodal)]
    return FrameObject(number, 2, 0.9, *rles)


def canvas() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


def strength(before: np.ndarray, after: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Return how far each pixel went from the original (0) to the colour (1)."""
    way = np.array(color, float) - before
    return ((after.astype(float) - before) * way).sum(2) / np.maximum((way * way).sum(2), 1)


@pytest.mark.parametrize("number", [1, 2])
def test_draw_overlay_hatching_lies_exactly_in_the_hidden_part(number):
    visible, amodal = masks()
    before = np.full((*SIZE, 3), 90, np.uint8)
    after = before.copy()
    style = OverlayStyle(labels=False, hidden_fill=0.0)
    draw_overlay(after, [item(visible, amodal, number)], {}, style)
    np.testing.assert_array_equal(changed(before, after) & ~amodal, False)
    inner = np.zeros(SIZE, bool)
    inner[64:156, 124:196] = True  # hidden, off the outline
    level = strength(before, after, color_of(number))
    values = set(np.round(level[inner], 1).tolist())
    assert values == {0.0, 0.9}
    share = (level[inner] > 0.5).mean()
    assert 0.2 < share < 0.6
    solid = np.zeros(SIZE, bool)
    solid[64:156, 54:116] = True
    np.testing.assert_allclose(level[solid], style.fill, atol=0.02)


def test_draw_overlay_hatching_stands_still_when_the_box_moves():
    levels = []
    for left in (100, 103):
        amodal = np.zeros(SIZE, bool)
        amodal[50:150, left : left + 90] = True
        frame = np.full((*SIZE, 3), 90, np.uint8)
        draw_overlay(frame, [item(None, amodal)], {}, PLAIN)
        levels.append(frame[60:140, 110:180])
    np.testing.assert_array_equal(*levels)


def test_draw_overlay_outline_is_the_full_color():
    visible, amodal = masks()
    frame = canvas()
    draw_overlay(frame, [item(visible, amodal)], {}, PLAIN)
    np.testing.assert_array_equal(frame[60, 50:200], np.tile(color_of(1), (150, 1)))


def test_draw_overlay_only_visible_predicted_hatches_nothing():
    visible, _ = masks()
    before = canvas()
    after = before.copy()
    draw_overlay(after, [item(visible, None)], {}, PLAIN)
    assert not (changed(before, after) & ~visible).any()


@pytest.mark.parametrize(
    "objects", [[], [item(None, None)], [item(np.zeros(SIZE, bool), np.zeros(SIZE, bool))]]
)
def test_draw_overlay_nothing_to_draw_leaves_the_frame(objects):
    before = canvas()
    after = before.copy()
    draw_overlay(after, objects, {})
    np.testing.assert_array_equal(before, after)


def test_draw_overlay_whole_style_fills_amodal_masks():
    _, amodal = masks()
    frames = [canvas(), canvas()]
    draw_overlay(frames[0], [item(None, amodal)], {}, OverlayStyle(labels=False, whole=True))
    draw_overlay(frames[1], [item(amodal, None)], {}, PLAIN)
    np.testing.assert_array_equal(*frames)


def test_draw_overlay_label_names_the_class():
    visible, amodal = masks()
    frames = []
    for names in ({2: "tang"}, {2: "goby"}, {}):
        frame = np.zeros((*SIZE, 3), np.uint8)
        draw_overlay(frame, [item(visible, amodal)], names)
        frames.append(frame)
    above = [frame[:58].copy() for frame in frames]
    assert all(part.any() for part in above)
    assert not np.array_equal(above[0], above[1])
    assert not np.array_equal(above[0], above[2])


def test_draw_overlay_order_of_objects_does_not_matter():
    visible, amodal = masks()
    pair = [item(visible, amodal, 1), item(amodal, None, 2)]
    frames = [canvas(), canvas()]
    draw_overlay(frames[0], pair, {})
    draw_overlay(frames[1], pair[::-1], {})
    np.testing.assert_array_equal(*frames)


def test_draw_overlay_mask_of_the_whole_frame_is_drawn():
    frame = np.zeros((*SIZE, 3), np.uint8)
    draw_overlay(frame, [item(np.ones(SIZE, bool), None)], {}, PLAIN)
    assert (frame != 0).any(axis=2).all()
