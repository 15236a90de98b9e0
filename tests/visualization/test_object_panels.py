"""Pictures of the objects of one image."""

import numpy as np
import pytest

from amodal2.structures import encode_mask
from amodal2.structures.frame_object import FrameObject
from amodal2.visualization.object_panels import draw_object_panels, draw_objects
from amodal2.visualization.panels import panel_width

HEIGHT, WIDTH = 120, 160
SEEN, HIDDEN, OVER = (slice(20, 90), slice(10, 50)), (slice(20, 90), slice(50, 90)), (
    slice(20, 90), slice(60, 150))  # fmt: skip


def mask(*places):
    result = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for place in places:
        result[place] = True
    return encode_mask(result)


@pytest.fixture
def image():
    return np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def thing(**masks):
    return FrameObject(id=1, category_id=1, score=0.9, **masks)


def changed(picture):
    return (picture != 128).any(axis=2)


def test_draw_objects_fills_what_is_seen_and_hatches_the_rest(image):
    item = thing(visible=mask(SEEN), amodal=mask(SEEN, HIDDEN))
    picture = draw_objects(image, [item], {1: "car"})
    assert (image == 128).all()
    inner = slice(60, 80)  # below the label
    assert len(np.unique(picture[inner, 20:40].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(picture[inner, 55:85].reshape(-1, 3), axis=0)) > 1
    assert not changed(picture)[100:].any()


def test_draw_objects_fills_amodal_masks_without_visible_ones(image):
    picture = draw_objects(image, [thing(visible=None, amodal=mask(SEEN))], {1: "car"})
    assert len(np.unique(picture[60:80, 20:40].reshape(-1, 3), axis=0)) == 1
    assert changed(picture)[60:80, 20:40].all()


def test_draw_object_panels_shows_occluders_in_the_third(image):
    item = thing(visible=mask(SEEN), amodal=mask(SEEN, HIDDEN))
    picture = draw_object_panels(image, [item], {1: "car"}, [mask(OVER)])
    assert picture.shape == (HEIGHT, panel_width(WIDTH, 3), 3)
    third = changed(picture[:, -WIDTH:])
    assert third[60:80, 65:145].any()
    assert not third[60:80, 10:50].any()
    two = draw_object_panels(image, [item], {1: "car"})
    assert two.shape == (HEIGHT, panel_width(WIDTH, 2), 3)


def test_draw_object_panels_of_nothing_is_the_image(image):
    assert not changed(draw_objects(image, [], {})).any()
    panels = draw_object_panels(image, [], {})
    assert (panels[:60, :WIDTH] == 128).all()
    assert (panels[:60, -WIDTH:] == 128).all()


def test_draw_object_panels_needs_an_occluder_per_object(image):
    with pytest.raises(ValueError, match="zip"):
        draw_object_panels(image, [], {}, [None])
